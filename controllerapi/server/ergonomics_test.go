package server

import (
	"net/http"
	"strings"
	"testing"
)

// What a person with curl meets: a mistyped name is an error, an answer ends its
// line, a wrong method is told the right ones, and an id may stand in the query or
// in the body.
func TestACallByHand(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil).controllers[0]
	group := func(name string) string {
		_, body := do(t, "POST", c.URL+"/api/v1/group", `{"name":"`+name+`"}`)
		_, rest, _ := strings.Cut(body, `"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		return id
	}
	curl := []string{"User-Agent", "curl/8.7.1"}
	for _, tc := range []struct {
		call, body string
		header     []string
		code       int
		want       string
	}{
		{"POST /api/v1/vm", `{"vmid":"x","cuont":2}`, curl, 400, `unknown field \"cuont\"; is \"count\" meant?`},
		{"POST /api/v1/vm", `{"vmid":"x","cuont":2}`, nil, 200, "VM not in the registry"},
		{"GET /api/v1/vm?state=Started", "", curl, 400, `unknown parameter \"state\": this call takes id`},
		{"GET /api/v1/vm?state=Started", "", nil, 200, `"OK"`},
		{"GET /api/v1/node?group_id=x", "", curl, 400, `unknown parameter \"group_id\"`},
		{"GET /api/v1/status?x=1", "", curl, 400, `this call takes none`},
		{"PATCH /api/v1/vm", `{}`, nil, 405, "/api/v1/vm takes GET and POST and PUT and DELETE, not PATCH"},
		{"DELETE /api/v1/status", "", nil, 405, "/api/v1/status takes GET, not DELETE"},
		{"GET /api/v1/nothing", "", nil, 404, "no such call: GET /api/v1/nothing"},
		{"DELETE /api/v1/vm?id=nobody", "", nil, 200, "Not found"},
		{"DELETE /api/v1/vm", `{"id":"nobody"}`, curl, 200, "Not found"},
		{"DELETE /api/v1/vm?id=a", `{"id":"b"}`, nil, 400, "id is given twice"},
		{"DELETE /api/v1/vm", "", nil, 200, "id is required"},
		{"DELETE /api/v1/node?node_id=nobody", "", curl, 200, "Not found"},
		{"DELETE /api/v1/node?id=nobody", "", nil, 200, "Not found"},
		{"DELETE /api/v1/node", "", nil, 200, "node_id is required"},
		{"DELETE /api/v1/group?id=" + group("by query"), "", curl, 200, `"OK"`},
		{"DELETE /api/v1/group", `{"id":"` + group("by body") + `"}`, curl, 200, `"OK"`},
	} {
		method, path, _ := strings.Cut(tc.call, " ")
		code, body := do(t, method, c.URL+path, tc.body, tc.header...)
		if code != tc.code || !strings.Contains(body, tc.want) {
			t.Errorf("%s %s %v: got %d %s, want %d with %s", tc.call, tc.body, tc.header, code, body, tc.code, tc.want)
		}
		if !strings.HasSuffix(body, "}\n") || strings.HasSuffix(body, "\n\n") {
			t.Errorf("%s: the answer does not end its line once: %q", tc.call, body)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, c.URL+"/api/v1/group", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Allow"); got != "GET, POST, PUT, DELETE" {
		t.Errorf("Allow: %q", got)
	}
}
