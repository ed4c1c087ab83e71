package proxy

import (
	"crypto/rand"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// HeaderHops lists the proxies that a request has come through, oldest first. A
// proxy that finds itself in it is among the servers of one that it forwards to,
// or among its own: without the mark such a request would go round until every
// descriptor is used.
const HeaderHops = "Anka-Proxy-Hops"

// maxHops is more proxies than anybody puts behind one another.
const maxHops = 16

// hops marks requests as having come through one proxy.
type hops struct {
	id   string
	told atomic.Int64 // when the last loop was logged
}

func newHops() *hops { return &hops{id: rand.Text()[:16]} }

// mark adds the proxy to what r has come through. It returns why r must not go
// on, or "".
func (h *hops) mark(r *http.Request) string {
	var through []string
	for _, line := range r.Header[HeaderHops] {
		for id := range strings.SplitSeq(line, ",") {
			through = append(through, strings.TrimSpace(id))
		}
	}
	for k, id := range through {
		switch {
		case id != h.id:
		case k == len(through)-1:
			return "loop: this proxy, reached as " + r.Host + ", is among its own servers; take that address off its list"
		default:
			return "loop: the request came back to this proxy, reached as " + r.Host + ", through another one; take that address off the other's list of servers"
		}
	}
	if len(through) >= maxHops {
		return "loop: the request has come through 16 proxies"
	}
	r.Header[HeaderHops] = []string{strings.Join(append(through, h.id), ", ")}
	return ""
}

// tell logs a loop, once a minute: probes go round, too.
func (h *hops) tell(log *zap.Logger, why string) {
	now, last := time.Now().Unix(), h.told.Load()
	if now-last >= 60 && h.told.CompareAndSwap(last, now) {
		log.Error("requests go in a loop", zap.String("reason", why))
	}
}
