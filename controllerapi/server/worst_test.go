package server

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/access"
)

// lists are the names of the lists and objects in what callers send.
func lists(of reflect.Type, names map[string]bool) {
	switch of.Kind() {
	case reflect.Pointer:
		lists(of.Elem(), names)
	case reflect.Slice:
		lists(of.Elem(), names)
	case reflect.Struct:
		for i := range of.NumField() {
			f := of.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			inner := f.Type
			for inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			switch inner.Kind() {
			case reflect.Slice, reflect.Map:
				names[name] = true
				lists(inner, names)
			case reflect.Struct:
				lists(inner, names)
			}
		}
	}
}

// Whatever a caller sends to a call, as long as the call takes, costs the controller
// less than ten times its bytes: before, 13 MB were 5 GB.
func TestWorstBodiesOfEveryCallAreCheap(t *testing.T) {
	names := map[string]bool{"node_ids": true, "group_ids": true, "ids": true}
	for _, of := range []any{api.StartRequest{}, api.RegisterRequest{}, api.SyncRequest{}, api.ReserveRequest{}, api.ReportRequest{}, api.SaveImageRequest{}} {
		lists(reflect.TypeOf(of), names)
	}
	const size = api.MaxReport
	fill := func(head, item, tail string) []byte {
		return []byte(head + strings.Repeat(item+",", (size-len(head)-len(tail)-len(item))/(len(item)+1)) + item + tail)
	}
	bodies := map[string][]byte{
		"list":  fill("[", "{}", "]"),
		"keys":  fill("{", `"x":0`, "}"),
		"depth": []byte(`{"x":` + strings.Repeat("[", size-10)),
		"text":  []byte(`{"name":"` + strings.Repeat("x", size-12) + `"}`),
	}
	for name := range names {
		bodies[name] = fill(`{"`+name+`":[`, "{}", "]}")
	}
	bodies["metadata"] = fill(`{"metadata":{`, `"x":[]`, "}}")
	s := offline(t, access.Guard{})
	calls := 0
	gone, leave := context.WithCancel(t.Context()) // no call waits for etcd
	leave()
	for _, r := range s.routes() {
		method, path, _ := strings.Cut(r.Pattern, " ")
		if method == http.MethodGet {
			continue
		}
		most := 1 << 20
		if path == api.PathAgentReport {
			most = api.MaxReport
		}
		for name, body := range bodies {
			for _, length := range []int{most, most + 1} {
				// A body is valid as long as it is; what is cut off is refused for it.
				text := body[:min(length, len(body))]
				if length == most && len(body) > most {
					text = append(bytes.TrimRight(body[:most-3], "{}[],\"x:0"), body[len(body)-2:]...)
				}
				req := httptest.NewRequestWithContext(gone, method, path, bytes.NewReader(text))
				req.Header.Set("User-Agent", "curl/8")
				answer := httptest.NewRecorder()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				r.Handler.ServeHTTP(answer, req)
				runtime.ReadMemStats(&after)
				calls++
				if took := int(after.TotalAlloc - before.TotalAlloc); took > 10*most {
					t.Errorf("%s with %s: took %d KB for %d KB", r.Pattern, name, took>>10, len(text)>>10)
				}
			}
		}
	}
	if calls < 400 {
		t.Errorf("%d calls: where are the others?", calls)
	}
}

// What a node and a CI system keep in the cloud has a length.
func TestFieldsThatAreKeptHaveALength(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	s := offline(t, access.Guard{})
	h := s.Handler()
	for _, c := range []struct{ method, path, body, field string }{
		{"POST", "/api/v1/group", `{"name":%q}`, "name"},
		{"POST", "/api/v1/group", `{"name":"a","description":%q}`, "description"},
		{"PUT", "/api/v1/group?id=a", `{"description":%q}`, "description"},
		{"POST", "/api/v1/vm", `{"vmid":"a","name":%q}`, "name"},
		{"POST", "/api/v1/vm", `{"vmid":"a","external_id":%q}`, "external_id"},
		{"POST", "/api/v1/vm", `{"vmid":"a","metadata":{"a":%q}}`, "metadata"},
		{"PUT", "/api/v1/vm?id=a", `{"metadata":{"a":%q}}`, "metadata"},
		{"PUT", "/api/v1/vm?id=a", `{"name":%q}`, "name"},
		{"POST", "/api/v1/image", `{"id":"a","description":%q}`, "description"},
		{"POST", "/api/v1/node/config", `{"node_id":"a","name":%q}`, "name"},
		{"POST", api.PathAgentRegister, `{"node_id":"a","session":"b","seed":{"name":%q}}`, "seed.name"},
		{"POST", api.PathAgentRegister, `{"node_id":"a","facts":{"usb_devices":[{"name":%q}]}}`, "facts.usb_devices.name"},
		{"POST", api.PathAgentSync, `{"node_id":"a","images":[{"tag":%q}]}`, "images.tag"},
	} {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(fmt.Sprintf(c.body, long))))
		if want := c.field + " has 10240"; !strings.Contains(answer.Body.String(), want) {
			t.Errorf("%s %s %s: got %.300s, want %q", c.method, c.path, c.field, answer.Body, want)
		}
	}
}
