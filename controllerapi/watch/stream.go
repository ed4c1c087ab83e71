package watch

import (
	"encoding/json"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/wire"
)

const (
	// atOnce are the changes that are encoded before they are sent.
	atOnce = 256
	// beat is how long a stream is silent at most. It is below the 30 s and more after
	// which proxies end a connection that is silent.
	beat = 15 * time.Second
	// slow is for how long a caller may take nothing.
	slow = 30 * time.Second
)

// Request is what a caller asks for.
type Request struct {
	Since int64 // 0 is a snapshot first
	Kinds []api.Kind
}

// Read reads the query of a request, and the Last-Event-ID of a browser that comes
// again. Without kinds the caller is told of all that it may read. The errors are
// answers.
func (s Source) Read(r *http.Request) (req Request, err error) {
	query := r.URL.Query()
	for name := range query {
		if name != "since" && name != "kinds" {
			return req, wire.BadRequest("unknown parameter %q: the stream takes since and kinds", name)
		}
	}
	text := query.Get("since")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		text = last
	}
	if text != "" {
		if req.Since, err = strconv.ParseInt(text, 10, 64); err != nil || req.Since < 0 {
			return req, wire.BadRequest("since must be a revision that an event of the stream had, not %q", text)
		}
	}
	if query.Get("kinds") == "" {
		for _, kind := range api.Kinds {
			if s.Guard.Permits(r.Context(), s.Needs(kind)) == nil {
				req.Kinds = append(req.Kinds, kind)
			}
		}
		return req, nil
	}
	for word := range strings.SplitSeq(query.Get("kinds"), ",") {
		kind := api.Kind(word)
		if s.Needs(kind) == 0 {
			return req, wire.BadRequest("kinds: there is no kind %q; there are %s", word, list(api.Kinds))
		}
		if err := s.Guard.Permits(r.Context(), s.Needs(kind)); err != nil {
			return req, wire.Refusal(err)
		}
		req.Kinds = append(req.Kinds, kind)
	}
	return req, nil
}

func list(kinds []api.Kind) string {
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = string(k)
	}
	return strings.Join(words, ", ")
}

// Source is what streams are told from.
type Source struct {
	Log *Log
	// Snapshot returns everything there is of the kinds, and the revision of it.
	Snapshot func(kinds []api.Kind) (rev int64, all iter.Seq[Change])
	// Needs is what a caller needs for a kind, 0 for one that there is not.
	Needs    func(api.Kind) access.Permission
	Guard    access.Guard
	Draining <-chan struct{} // closed when the server is about to end
}

// stream is one caller's.
type stream struct {
	Source
	r     *http.Request
	kinds []api.Kind
	out   *wire.Stream
	at    int64 // everything up to it was told
}

// Serve answers a request with changes until the caller leaves, takes nothing, or the
// stream has an end that it is told.
func Serve(w http.ResponseWriter, r *http.Request, req Request, from Source) {
	s := &stream{Source: from, r: r, kinds: req.Kinds, at: req.Since, out: wire.NewStream(w, r, slow)}
	if req.Since == 0 || !s.Log.Knows(req.Since) {
		if s.snapshot() != nil {
			return
		}
	}
	s.follow()
}

// snapshot sends everything there is, in parts.
func (s *stream) snapshot() error {
	rev, all := s.Snapshot(s.kinds)
	event := api.WatchEvent{Snapshot: true}
	for change := range all {
		told := s.told(change)
		if told.Gone {
			continue // meanwhile
		}
		if event.Changes = append(event.Changes, told); len(event.Changes) == atOnce {
			s.add(event)
			event.Changes = nil
			if err := s.out.Flush(); err != nil {
				return err
			}
		}
	}
	s.at, event.Revision = rev, rev
	s.add(event)
	return nil
}

// follow tells changes until the caller leaves or the stream has an end.
func (s *stream) follow() {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		changes, upTo, grown, err := s.Log.After(s.at, atOnce)
		if err != nil {
			s.end(api.EndedCompacted)
			return
		}
		s.tell(changes)
		s.at = upTo
		if err := s.out.Flush(); err != nil {
			return
		}
		if len(changes) >= atOnce {
			continue
		}
		select {
		case <-grown:
		case <-tick.C:
			if !s.permitted() {
				s.end(api.EndedDenied)
				return
			}
			s.add(api.WatchEvent{Revision: s.at})
		case <-s.Draining:
			s.end(api.EndedDraining)
			return
		case <-s.r.Context().Done():
			return
		}
	}
}

// tell adds an event for each revision that changed something of the caller's kinds.
func (s *stream) tell(changes []Change) {
	for len(changes) > 0 {
		event := api.WatchEvent{Revision: changes[0].Rev}
		for len(changes) > 0 && changes[0].Rev == event.Revision {
			if slices.Contains(s.kinds, changes[0].Kind) {
				event.Changes = append(event.Changes, s.told(changes[0]))
			}
			changes = changes[1:]
		}
		if len(event.Changes) > 0 {
			s.add(event)
		}
	}
}

func (s *stream) told(c Change) api.Change {
	out := api.Change{Kind: c.Kind, ID: c.ID}
	if c.Object != nil {
		out.Object = c.Object()
	}
	out.Gone = out.Object == nil
	return out
}

// permitted reports whether the caller may still read what it is told: credentials are
// revoked and groups change while a stream lives.
func (s *stream) permitted() bool {
	r, err := s.Guard.Admit(s.r, access.Authenticated)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(s.kinds, func(k api.Kind) bool { return s.Guard.Permits(r.Context(), s.Needs(k)) != nil })
}

func (s *stream) end(why string) {
	s.add(api.WatchEvent{Revision: s.at, End: why})
	_ = s.out.Flush() // it ends either way
}

func (s *stream) add(event api.WatchEvent) {
	data, err := json.Marshal(event)
	if err != nil {
		panic("watch: an event does not encode: " + err.Error())
	}
	id := ""
	if event.Revision > 0 {
		id = strconv.FormatInt(event.Revision, 10)
	}
	s.out.Add(id, data)
}
