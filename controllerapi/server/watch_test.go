package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/access"
)

// told is what a stream has told so far: its changes as words, and the newest state.
type told struct {
	t       *testing.T
	next    func() (api.WatchEvent, error, bool)
	at      int64
	changes []string
	vms     map[string]api.InstanceState
}

func listen(t *testing.T, c *api.Client, since int64, kinds ...api.Kind) *told {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	next, stop := iter.Pull2(c.Watch(ctx, since, kinds...))
	t.Cleanup(func() { cancel(); stop() })
	return &told{t: t, next: next, at: since, vms: make(map[string]api.InstanceState)}
}

// event returns the next event, and keeps what it says.
func (l *told) event() api.WatchEvent {
	l.t.Helper()
	event, err, ok := l.next()
	if err != nil || !ok {
		l.t.Fatalf("the stream ended: %v", err)
	}
	if event.Revision != 0 && event.Revision < l.at {
		l.t.Fatalf("revision %d after %d", event.Revision, l.at)
	}
	for _, change := range event.Changes {
		if change.Gone != (change.Object == nil) {
			l.t.Fatalf("%+v", change)
		}
		if change.Kind != api.KindVM {
			continue
		}
		var vm api.ListedInstance
		if !change.Gone {
			if err := json.Unmarshal(change.Object, &vm); err != nil || string(vm.InstanceID) != change.ID {
				l.t.Fatalf("%s: %v", change.Object, err)
			}
		}
		l.vms[change.ID] = vm.VM.InstanceState
		if !event.Snapshot {
			l.changes = append(l.changes, fmt.Sprint(event.Revision, change.ID, string(change.Object)))
		}
	}
	if event.Revision != 0 {
		l.at = event.Revision
	}
	return event
}

// until reads on until the instance is in the state; "" is gone.
func (l *told) until(id api.InstanceID, state api.InstanceState) {
	l.t.Helper()
	for {
		if got, seen := l.vms[string(id)]; seen && got == state {
			return
		}
		l.event()
	}
}

// live starts and ends a VM, up to the end of its record.
func live(t *testing.T, c *testCloud, n *fakeNode) api.InstanceID {
	t.Helper()
	ids, err := c.controllers[0].client().Start(t.Context(), api.StartRequest{VMID: "tpl-1"})
	if err != nil {
		t.Fatal(err)
	}
	if n.start(n.reserve(api.TaskStart)) {
		t.Fatal("the start was abandoned")
	}
	if err := c.controllers[len(c.controllers)-1].client().Terminate(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	n.terminate(n.reserve(api.TaskTerminate))
	return ids[0]
}

func TestEveryControllerStreamsTheSameChangesInTheSameOrder(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 3, nil)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	early := listen(t, c.controllers[0].client(), 0, api.KindVM)
	if first := early.event(); !first.Snapshot || len(first.Changes) != 0 {
		t.Fatalf("an empty cloud's snapshot: %+v", first)
	}
	begun := early.at
	var last api.InstanceID
	for range 5 {
		last = live(t, c, n)
	}
	early.until(last, api.Terminated)
	if len(early.changes) < 5*4 {
		t.Fatalf("five lives are %d changes: %q", len(early.changes), early.changes)
	}
	for i := range c.controllers {
		// All at once, and in two parts of which the second comes from another one.
		whole := listen(t, c.controllers[i].client(), begun, api.KindVM)
		whole.until(last, api.Terminated)
		part := listen(t, c.controllers[i].client(), begun, api.KindVM)
		for len(part.changes) < 7 {
			part.event()
		}
		rest := listen(t, c.controllers[(i+1)%3].client(), part.at, api.KindVM)
		rest.until(last, api.Terminated)
		for _, got := range [][]string{whole.changes, slices.Concat(part.changes, rest.changes)} {
			if !slices.Equal(got, early.changes) {
				t.Fatalf("controller %d told\n%s\nthe first one, as it happened,\n%s", i, strings.Join(got, "\n"), strings.Join(early.changes, "\n"))
			}
		}
	}
}

func TestASnapshotIsWhatTheListsSay(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	newNode(t, "n1", c.controllers...).register()
	client := c.controllers[0].client()
	ids, err := client.Start(t.Context(), api.StartRequest{VMID: "tpl-1", Count: new(300)})
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, client, 0)
	kinds, parts := make(map[api.Kind]int), 0
	for done := false; !done; {
		event := l.event()
		parts++
		if !event.Snapshot {
			t.Fatalf("%+v before the end of the snapshot", event)
		}
		for _, change := range event.Changes {
			kinds[change.Kind]++
		}
		done = event.Revision != 0
	}
	list, err := client.Instances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if kinds[api.KindVM] != len(list) || len(list) < len(ids) || kinds[api.KindNode] != 1 || kinds[api.KindCluster] != 1 || parts < 2 {
		t.Fatalf("%v in %d parts; the list has %d VMs", kinds, parts, len(list))
	}
}

func TestAStreamSaysWhyItEnds(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	client := c.controllers[0].client()
	l := listen(t, client, 0)
	l.event()
	s := c.controllers[0].Server
	// What the stream was not told is no longer known.
	s.changes.Reset(l.at + 1000)
	if event := l.event(); event.End != api.EndedCompacted {
		t.Fatalf("%+v", event)
	}
}

func TestADrainingControllerEndsItsStreams(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	s, client := c.controllers[0].Server, c.controllers[0].client()
	l := listen(t, client, 1)
	if first := l.event(); !first.Snapshot {
		t.Fatalf("the changes from before this controller began: %+v", first)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for event := l.event(); event.End != api.EndedDraining; event = l.event() {
		if event.End != "" {
			t.Fatalf("%+v", event)
		}
	}
}

// noNodes lets everybody in, and nobody read nodes.
type noNodes struct{}

func (noNodes) Authenticate(*http.Request) (access.Principal, error) { return ada, nil }

func (noNodes) Authorize(_ context.Context, p access.Principal, need access.Permission) error {
	if need == access.ListNodes {
		return &access.DeniedError{Principal: p, Permission: need}
	}
	return nil
}

func TestAStreamTellsOnlyWhatItsCallerMayRead(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, func(cfg *Config) { cfg.Access = access.Guard{Authenticator: noNodes{}, Authorizer: noNodes{}} })
	newNode(t, "n1", c.controllers...).register()
	client := c.controllers[0].client()
	for _, change := range listen(t, client, 0).event().Changes {
		if change.Kind == api.KindNode {
			t.Errorf("%+v", change)
		}
	}
	for query, want := range map[string]string{
		"kinds=node": "Not permitted", "kinds=vm,mac": `no kind \"mac\"; there are vm, node, group, cluster`, "since=x": `not \"x\"`, "since=-1": `not \"-1\"`, "q=1": `unknown parameter \"q\"`,
		"since=999999999": "ask without since",
	} {
		code, answer := do(t, http.MethodGet, c.controllers[0].URL+api.PathWatch+"?"+query, "")
		if code != http.StatusBadRequest && code != http.StatusForbidden || !strings.Contains(answer, want) {
			t.Errorf("%s: %d %s", query, code, answer)
		}
	}
}

func get(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAStreamForBrowsers(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	open := func(last string) *bufio.Reader {
		r := get(t, c.controllers[0].URL+api.PathWatch+"?kinds=vm")
		r.Header.Set("Accept", "text/event-stream")
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
			t.Fatal(kind)
		}
		return bufio.NewReader(resp.Body)
	}
	line := func(r *bufio.Reader, head string) string {
		text, err := r.ReadString('\n')
		if err != nil || !strings.HasPrefix(text, head) {
			t.Fatalf("%q %v, want %q", text, err, head)
		}
		return strings.TrimSpace(strings.TrimPrefix(text, head))
	}
	stream := open("")
	id := line(stream, "id: ")
	if data := line(stream, "data: "); !strings.Contains(data, `"snapshot":true`) {
		t.Fatal(data)
	}
	line(stream, "")
	if _, err := c.controllers[0].client().Start(t.Context(), api.StartRequest{VMID: "tpl-1"}); err != nil {
		t.Fatal(err)
	}
	first := line(stream, "id: ")
	if again := open(id); line(again, "id: ") != first || !strings.Contains(line(again, "data: "), `"kind":"vm"`) {
		t.Error("a browser that comes again is told something else")
	}
}

func TestARevisionTellsAnObjectOnce(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	l := listen(t, c.controllers[0].client(), 0)
	for l.at == 0 {
		l.event()
	}
	last := live(t, c, n)
	for l.vms[string(last)] != api.Terminated {
		event := l.event()
		seen := make(map[string]bool)
		for _, change := range event.Changes {
			if key := string(change.Kind) + " " + change.ID; seen[key] {
				t.Fatalf("twice: %+v", event)
			} else {
				seen[key] = true
			}
		}
	}
}

func TestEveryKindIsTold(t *testing.T) {
	t.Parallel()
	for _, k := range api.Kinds {
		if of := kinds[k]; !of.need.Known() || of.all == nil || of.current == nil && k != api.KindVM {
			t.Errorf("%s: %+v", k, of)
		}
	}
	if len(kinds) != len(api.Kinds) {
		t.Errorf("%d kinds are in the table, %d in the contract", len(kinds), len(api.Kinds))
	}
}
