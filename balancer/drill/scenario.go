package drill

import "time"

// scenario is one thing that goes wrong, and what is promised when it does.
type scenario struct {
	name     string
	about    string
	victims  int
	play     script
	isolate  bool // the victim needs a network of its own
	promise  promise
	download *downloadPromise // instead of promise: the load is one download
}

// promise is what must hold; docs/balancing-comparison.md says it in words.
type promise struct {
	unkeyed  int           // this many POSTs without a key may fail or be slow
	wrong    int           // this many of each other kind may fail or be slow
	steady   time.Duration // after each fault; 0: not judged
	back     time.Duration // from healing to the first answer of what healed; 0: not judged
	first    time.Duration // from the first healing to the first answer of any backend; 0: not judged
	attempts int           // in a second on a dead backend; 0: not judged
	fair     bool          // nothing breaks, so shares must be equal
	stays    bool          // POSTs fail at all backends alike, so none may be taken out
	alone    bool          // what is wrong shows only beside peers, so its way back takes the breaker's time
	stall    time.Duration // every request may wait for as long; 0: none may be slow
}

// ordinary is what is promised for most faults.
func ordinary(unkeyed int) promise {
	return promise{unkeyed: unkeyed, steady: 500 * time.Millisecond, back: time.Second}
}

// unlikePeers is what is promised where readiness is good and most answers are, or all
// are answers of some kind.
func unlikePeers(wrong, unkeyed int) promise {
	return promise{wrong: wrong, unkeyed: unkeyed, alone: true}
}

func scenarios() []scenario {
	late := ordinary(10)
	late.steady = time.Second
	return []scenario{
		{name: "none", about: "nothing breaks: the shares are fair", play: nothing, promise: promise{fair: true}},
		{name: "kill", about: "one of three is killed", victims: 1, play: once(killed), promise: ordinary(4)},
		{name: "kill-two", about: "two of three are killed", victims: 2, play: once(killed), promise: ordinary(4)},
		{name: "hang", about: "one accepts requests and never answers (SIGSTOP)", victims: 1, play: once(suspended), promise: ordinary(10)},
		{name: "drop", about: "packets to one are dropped", victims: 1, play: once(unreachable), isolate: true, promise: ordinary(10)},
		{name: "503", about: "one answers 503, also to readiness checks", victims: 1, play: once(overloaded), promise: ordinary(4)},
		{name: "503-ready", about: "one answers 503 while its readiness check is good", victims: 1, play: once(overloadedReady), promise: ordinary(4)},
		{name: "slow", about: "one answers 5 s late, also to readiness checks", victims: 1, play: once(slow), promise: ordinary(10)},
		{name: "slow-ready", about: "one answers 5 s late while its readiness check is good", victims: 1, play: once(slowReady), promise: late},
		{name: "reset", about: "one resets connections before it answers", victims: 1, play: once(resettingBefore), promise: ordinary(4)},
		{name: "reset-body", about: "one resets connections in mid answer", victims: 1, play: once(resettingMid), promise: ordinary(4)},
		{name: "body-hang", about: "one answers 200 and then never ends the body, which has no length", victims: 1, play: once(unended), promise: ordinary(10)},
		{name: "body-endless", about: "one sends bodies without a length and without an end", victims: 1, play: once(flooding), promise: ordinary(10)},
		{name: "404", about: "one answers 404 to everything; its readiness check is good", victims: 1, play: once(notFound), promise: unlikePeers(12, 40)},
		{name: "500-posts", about: "one answers 500 to POSTs alone", victims: 1, play: once(failingPosts), promise: unlikePeers(12, 40)},
		{name: "reset-tenth", about: "one resets each tenth request before it answers", victims: 1, play: once(resettingTenth), promise: unlikePeers(0, 40)},
		{name: "hang-tenth", about: "one leaves each tenth request without an answer", victims: 1, play: once(hangingTenth), promise: unlikePeers(0, 40)},
		{name: "404-all", about: "all three answer 404 to POSTs, as to a caller's mistake", victims: 3, play: once(refusingPosts), promise: promise{stays: true}},
		{name: "flap", about: "one is killed each time it has been back for a second", victims: 1, play: crashLoop, promise: ordinary(4)},
		{name: "rolling", about: "all three are restarted politely, one after the other", victims: 3, play: rollingRestart, promise: ordinary(4)},
		// Four for each that dies: what a process had read when it was killed cannot be
		// repeated without a key.
		{name: "all-down", about: "all three are killed for 10 s", victims: 3, play: blackout, promise: promise{unkeyed: 3 * 4, first: 500 * time.Millisecond, stall: deadline, attempts: 3}},
		{name: "download-kill", about: "the registry that sends 1 GiB is killed in the middle", play: midway(killed), download: &downloadPromise{gap: 50 * time.Millisecond}},
		{name: "download-hang", about: "the registry that sends 1 GiB hangs in the middle", play: midway(suspended), download: &downloadPromise{gap: 2 * time.Second}},
		{name: "download-kills", about: "the registry that sends 1 GiB is killed every 2 s", play: againAndAgain, download: &downloadPromise{gap: 2 * time.Second, twice: 0.01}},
	}
}
