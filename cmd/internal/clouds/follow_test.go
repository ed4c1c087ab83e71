package clouds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// script answers requests one after another: a text is the body of an answer, which
// breaks where it ends in "!" and stays open where it ends in "…".
type script struct {
	answers []string
	asked   []string
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	s.asked = append(s.asked, req.URL.RequestURI())
	if len(s.answers) == 0 {
		return nil, errors.New("the script is at its end")
	}
	text := s.answers[0]
	s.answers = s.answers[1:]
	resp := &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Request: req}
	if code, rest, ok := strings.Cut(text, "|"); ok {
		_, _ = fmt.Sscan(code, &resp.StatusCode)
		text = rest
		if resp.StatusCode == http.StatusNotFound {
			resp.Header.Set(wire.ErrorHeader, string(wire.CodeNoSuchCall))
		}
	}
	r, w := io.Pipe()
	resp.Body = r
	context.AfterFunc(req.Context(), func() { _ = w.CloseWithError(context.Cause(req.Context())) })
	go func() {
		body, open := strings.CutSuffix(text, "…")
		body, broken := strings.CutSuffix(body, "!")
		_, _ = io.WriteString(w, body) // the reader went away
		if broken {
			_ = w.CloseWithError(io.ErrUnexpectedEOF)
		}
		if !open {
			_ = w.Close()
		}
	}()
	return resp, nil
}

func vm(id, state string) string {
	return fmt.Sprintf(`{"kind":"vm","id":%[1]q,"object":{"instance_id":%[1]q,"vm":{"instance_id":%[1]q,"instance_state":%[2]q}}}`, id, state)
}

// told follows VMs through the script and returns what is yielded as words.
func told(t *testing.T, s *script, n int) (words []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := &Cloud{Client: controllerapi.NewClient("http://controllers", &http.Client{Transport: s})}
	for vms, err := range c.VMs(ctx) {
		word := "error"
		if err == nil {
			var all []string
			for _, id := range slices.Sorted(maps.Keys(vms)) {
				all = append(all, string(id)+" "+string(vms[id].InstanceState))
			}
			word = strings.Join(all, ", ")
		}
		if errors.Is(err, ErrSilent) {
			word = "silent"
		}
		if errors.Is(err, controllerapi.ErrUnauthorized) {
			word = "denied"
		}
		if words = append(words, word); len(words) == n {
			break
		}
	}
	return words
}

func TestAStreamGoesOnWhereItBroke(t *testing.T) {
	for name, c := range map[string]struct {
		answers     []string
		told, asked []string
	}{
		"a snapshot in parts, changes, a break": {
			answers: []string{
				`{"snapshot":true,"changes":[` + vm("a", "Started") + "]}\n" + `{"snapshot":true,"revision":5,"changes":[` + vm("b", "Scheduling") + "]}\n" +
					`{"revision":6}` + "\n" + `{"revision":7,"changes":[` + vm("b", "Started") + "]}\n!",
				`{"revision":9,"changes":[{"kind":"vm","id":"a","gone":true}]}` + "\n…",
			},
			told:  []string{"a Started, b Scheduling", "a Started, b Started", "error", "b Started"},
			asked: []string{"/api/v1/watch?kinds=vm", "/api/v1/watch?kinds=vm&since=7"},
		},
		"a break in a snapshot": {
			answers: []string{`{"snapshot":true,"changes":[` + vm("a", "Started") + "]}\n!", `{"snapshot":true,"revision":5,"changes":[` + vm("b", "Started") + "]}\n…"},
			told:    []string{"error", "b Started"},
			asked:   []string{"/api/v1/watch?kinds=vm", "/api/v1/watch?kinds=vm"},
		},
		"a controller that drains, and one that begins anew": {
			answers: []string{`{"snapshot":true,"revision":5,"changes":[` + vm("a", "Started") + "]}\n" + `{"end":"draining"}` + "\n", `{"snapshot":true,"revision":8}` + "\n…"},
			told:    []string{"a Started", ""},
			asked:   []string{"/api/v1/watch?kinds=vm", "/api/v1/watch?kinds=vm&since=5"},
		},
		"a controller that hangs": {
			answers: []string{`{"snapshot":true,"revision":5}` + "\n…", `{"revision":6,"changes":[` + vm("a", "Started") + "]}\n…"},
			told:    []string{"", "silent", "a Started"},
			asked:   []string{"/api/v1/watch?kinds=vm", "/api/v1/watch?kinds=vm&since=5"},
		},
		"a controller without streams": {
			answers: []string{`404|{"status":"FAIL","message":"no such call"}`, `{"status":"OK","body":[{"instance_id":"a","vm":{"instance_id":"a","instance_state":"Started"}}]}`,
				`{"snapshot":true,"revision":5}` + "\n…"},
			told:  []string{"a Started", ""},
			asked: []string{"/api/v1/watch?kinds=vm", "/api/v1/vm", "/api/v1/watch?kinds=vm"},
		},
		"a cloud that was put back": {
			answers: []string{`{"snapshot":true,"revision":50}` + "\n", `400|{"status":"FAIL","message":"revision 50 is not one of this cloud"}`, `{"snapshot":true,"revision":5}` + "\n…"},
			told:    []string{"", ""},
			asked:   []string{"/api/v1/watch?kinds=vm", "/api/v1/watch?kinds=vm&since=50", "/api/v1/watch?kinds=vm"},
		},
		"no right any more": {
			answers: []string{`{"snapshot":true,"revision":5}` + "\n" + `{"end":"denied"}` + "\n"},
			told:    []string{"", "denied"},
			asked:   []string{"/api/v1/watch?kinds=vm"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: c.answers}
				began := time.Now()
				if got := told(t, s, len(c.told)); !slices.Equal(got, c.told) {
					t.Errorf("told %q, want %q", got, c.told)
				}
				if !slices.Equal(s.asked, c.asked) {
					t.Errorf("asked %q, want %q", s.asked, c.asked)
				}
				if took := time.Since(began); took > silence+5*time.Second {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}
