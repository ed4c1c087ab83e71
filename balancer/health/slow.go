package health

import "time"

// SlowConfig says when an endpoint is late beside its peers.
type SlowConfig struct {
	// Late answers in a row, with peers on time, take an endpoint out.
	Late int
	// Peers must have given this many answers on time in a row.
	Peers int
	// Pause is by how much a timer may fire late before the whole machine is
	// taken to have paused.
	Pause time.Duration
}

// DefaultSlow returns when an endpoint of a few is late.
func DefaultSlow() SlowConfig {
	return SlowConfig{Late: 5, Peers: 5, Pause: 40 * time.Millisecond}
}

// Punctuality is how late an endpoint's answers are. A request is late when its
// hedge delay passed without an answer; it is judged while it is still
// unanswered, because a hung endpoint never completes anything.
type Punctuality struct {
	// LateRun counts late requests since the last answer on time; lateSince is
	// when the first of them was sent.
	LateRun   int
	lateSince time.Time
	// onTimeRun counts answers on time since the last late one; onTimeSent is
	// when the newest of those requests was sent.
	onTimeRun  int
	onTimeSent time.Time
	// recent holds the last requests as bits, 1 for late, newest lowest.
	recent uint64
	seen   int
}

// recentWindow is how many of the last requests the mixed rule looks at.
const recentWindow = 20

// Late counts a request that is late, by when it was sent.
func (p Punctuality) Late(sent time.Time) Punctuality {
	if p.LateRun == 0 || sent.Before(p.lateSince) {
		p.lateSince = sent
	}
	p.LateRun++
	p.onTimeRun = 0
	p.recent = p.recent<<1 | 1
	p.seen++
	return p
}

// OnTime counts an answer on time, by when its request was sent.
func (p Punctuality) OnTime(sent time.Time) Punctuality {
	p.LateRun = 0
	p.onTimeRun++
	if sent.After(p.onTimeSent) {
		p.onTimeSent = sent
	}
	p.recent <<= 1
	p.seen++
	return p
}

// lateOfRecent is how many of the last recentWindow requests were late.
func (p Punctuality) lateOfRecent() int {
	n := 0
	for i := range recentWindow {
		n += int(p.recent >> i & 1)
	}
	return n
}

// TooLate says whether an endpoint is to be taken out for being late beside its
// peers. It is when its late answers come in a row, or make up most of the
// recent ones, while at least one usable peer answered requests that were sent
// after the trouble began, and no peer is in the same trouble: when all are
// late at once, the machine or the network is slow, not they.
func TooLate(cfg SlowConfig, p Punctuality, peers []Punctuality) bool {
	inRow := p.LateRun >= cfg.Late
	mostly := p.seen >= recentWindow && p.lateOfRecent()*2 >= recentWindow
	if !inRow && !mostly {
		return false
	}
	good := 0
	for _, peer := range peers {
		if peer.LateRun == 0 && peer.onTimeRun >= cfg.Peers && (p.LateRun == 0 || peer.onTimeSent.After(p.lateSince)) {
			good++
		}
	}
	return good > 0 && good*2 >= len(peers)
}
