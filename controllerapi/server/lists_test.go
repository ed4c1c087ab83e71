package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
)

func TestListsAreAskedForParts(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	url := c.controllers[0].URL
	c.registry.set(func(f *fakeRegistry) {
		f.templates = append(f.templates, registryapi.Template{ID: "tpl-2", Name: "linux", Size: 1 << 30})
	})
	for _, id := range []string{"n1", "n2", "n3"} {
		newNode(t, id, c.controllers...).register()
	}
	for _, name := range []string{"one", "two", "three"} {
		mustStart(t, c.controllers[0], api.StartRequest{Name: name})
	}
	get := func(url string) (body string, head http.Header) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Status string
			Body   json.RawMessage
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Status != wire.StatusOK {
			t.Fatalf("%s: %+v, %v", url, answer, err)
		}
		// When a node was heard last, each controller knows for itself.
		return times.ReplaceAllString(string(answer.Body), `"TIME"`), resp.Header
	}
	for _, path := range []string{"/api/v1/vm", "/api/v1/node", "/api/v1/registry/vm?apiVer=v1", "/api/v1/registry/vm"} {
		whole, head := get(url + path)
		if _, told := head[wire.TotalHeader]; told {
			t.Errorf("%s: a list that nobody asks for a part of has headers of one", path)
		}
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		all, head := get(url + path + sep + "limit=100")
		var rows []json.RawMessage
		if err := json.Unmarshal([]byte(all), &rows); err != nil {
			t.Fatal(err)
		}
		var parts []string
		for next, k := "", 0; k == 0 || next != ""; k++ {
			part, head := get(c.controllers[k%2].URL + path + sep + "limit=1&after=" + next)
			parts = append(parts, strings.Trim(part, "[]"))
			next = head.Get(wire.NextHeader)
		}
		if got := "[" + strings.Join(parts, ",") + "]"; got != all || len(rows) < 2 || len(whole) != len(all) || // in another order, perhaps
			head.Get(wire.TotalHeader) != itoa(len(rows)) {
			t.Errorf("%s: parts %s, all %s, whole %s, %s of them", path, got, all, whole, head.Get(wire.TotalHeader))
		}
		if none, head := get(url + path + sep + "q=nothing-is-called-so"); none != "[]" || head.Get(wire.TotalHeader) != "0" {
			t.Errorf("%s: nothing is %s, %s of them", path, none, head.Get(wire.TotalHeader))
		}
		if code, body := do(t, http.MethodGet, url+path+sep+"q=nam:x", ""); code != http.StatusBadRequest || !strings.Contains(body, `is \"name\" meant?`) {
			t.Errorf("%s: a key with a slip is answered by %d %s", path, code, body)
		}
	}
	whole, _ := get(url + "/api/v1/vm")
	if asked, _ := get(url + "/api/v1/vm?q=state:Scheduling"); asked != whole {
		t.Errorf("asked for all %s, the list %s", asked, whole)
	}
	if code, body := do(t, http.MethodGet, url+"/api/v1/vm?sor=name", "", "User-Agent", "curl/8"); code != http.StatusBadRequest || !strings.Contains(body, `is \"sort\" meant?`) {
		t.Errorf("a parameter with a slip is answered by %d %s", code, body)
	}
}
