package why

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/cloud/cloudtest"
	"github.com/ankacluster/ankacluster/controllerapi/schedule"
)

// world is a cloud whose nodes are m1, m2 and so on, and an instance that waits.
type world struct {
	*cloudtest.World
	t     testing.TB
	nodes int
	heard map[api.NodeID]time.Time
	stuck string
}

func (w *world) Read(f func(v *cloud.View)) { f(w.View) }

func (w *world) asker() Asker {
	w.View.Ages.Offset.Store(int64(time.Until(w.Now)))
	return Asker{Cloud: w, Config: schedule.DefaultConfig(), Heard: func(id api.NodeID) time.Time { return w.heard[id] }, Stuck: w.stuck}
}

// node adds a node that is called mac-01 and so on, with two slots, some of which run VMs.
func (w *world) node(running int, change func(n *cloud.Node)) api.NodeID {
	w.nodes++
	id := api.NodeID(fmt.Sprintf("m%d", w.nodes))
	n := cloud.Node{ID: id, Session: "s", Registered: w.Now, FactsHash: "facts",
		Facts:    api.NodeFacts{HostArch: "arm64", CPUCount: 8, RAM: 32, LicenseValid: true},
		Settings: api.NodeSettings{Name: fmt.Sprintf("mac-%02d", w.nodes), MaxVMCount: 2, CapacityMode: schedule.ByNumber}}
	if change != nil {
		change(&n)
	}
	w.Put(cloud.NodeRef(id), n)
	w.Put(cloud.NodeLeaseRef(id), cloud.NodeLease{Session: "s"})
	w.report(id, running)
	return id
}

func (w *world) report(id api.NodeID, running int, images ...api.NodeImage) {
	var vms []cloud.ReportedVM
	for range running {
		vms = append(vms, cloud.ReportedVM{Status: "running", VCPU: 4, RAM: 4096})
	}
	w.Put(cloud.NodeReportRef(id), cloud.NodeReport{Session: "s", VMs: vms, Images: images})
}

// start adds an instance that waits since the time.
func (w *world) start(id api.InstanceID, since time.Duration, change func(i *cloud.Instance)) {
	i := &cloud.Instance{
		Public:  api.Instance{InstanceID: id, InstanceState: api.Scheduling, CRTime: w.Now, Arch: "arm64"},
		Request: string(id), Attempt: 1, Priority: 1000, Template: api.TemplateRef{ID: "xcode", Tag: "v9"},
	}
	if change != nil {
		change(i)
	}
	w.Put(cloud.InstanceRef(id), i)
	w.Pass(since)
}

func drains(n *cloud.Node) { n.Settings.DrainMode = true }
func intel(n *cloud.Node)  { n.Facts.HostArch = "amd64" }
func resources(n *cloud.Node) {
	n.Settings.CapacityMode, n.Settings.VCPUOverride, n.Settings.RAMOverride = schedule.ByResource, 12, 16384
}
func phones(n *cloud.Node) {
	n.Facts.USBDevices = []api.USBDevice{{Group: "iphone", Busy: true}, {Group: "iphone", Busy: true}}
}

var template = api.NodeImage{UUID: "xcode", Tag: "v9"}

// tell is the answer as the tests compare it.
func tell(y api.Why) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", y.Cause, y.Text)
	for _, r := range y.Rules {
		fmt.Fprintf(&b, "%d %s; %d left\n", r.Excluded.Count, r.Text, r.Left)
	}
	for _, back := range y.HandedBack {
		fmt.Fprintf(&b, "back from %s %q again in %g s\n", back.Name, back.Reason, back.Again)
	}
	for _, a := range y.Advice {
		fmt.Fprintf(&b, "- %s\n", a)
	}
	return b.String()
}

func TestWhyAnInstanceWaits(t *testing.T) {
	for _, tc := range []struct {
		name  string
		build func(w *world)
		want  string
	}{
		{"a cloud without nodes", func(w *world) { w.start("i", time.Second, nil) },
			"no_nodes: The cloud has no nodes. It starts when one joins.\n- join a node\n"},
		{"all are full", func(w *world) {
			w.Put(cloud.GroupRef("g"), api.Group{ID: "g", Name: "ios"})
			w.node(0, intel)
			w.node(0, nil)
			w.node(0, drains)
			gone := w.node(0, nil)
			w.Delete(cloud.NodeLeaseRef(gone))
			in := []api.NodeID{w.node(2, nil), w.node(2, nil)}
			w.Put(cloud.MemberRef("g"), cloud.Members{Nodes: append(in, "m3", "m4")})
			w.start("other", 0, nil)
			w.start("i", 10*time.Second, func(i *cloud.Instance) { i.Public.GroupID = "g" })
		}, `room: All 2 nodes that could run it are full. It starts when a VM there ends.
1 is amd64, it needs arm64; 5 left
1 is not in group ios; 4 left
2 take nothing now: 1 drain, 1 offline; 2 left
2 are full (4 of 4 slots); 0 left
- end a VM on one of these nodes
- add a node to group ios
- give group ios a fallback
- give it a priority with a lower number
`},
		{"one is full", func(w *world) { w.node(2, nil); w.start("i", time.Second, nil) },
			"room: The one node that could run it is full. It starts when a VM there ends.\n1 is full (2 of 2 slots); 0 left\n- end a VM on one of these nodes\n"},
		{"a node is kept free for it", func(w *world) {
			w.node(2, func(n *cloud.Node) { resources(n); intel(n) })
			w.start("i", 4*time.Minute, func(i *cloud.Instance) { i.Public.Arch, i.VCPU, i.RAM = "amd64", 8, 8192 })
		}, `room: mac-01 is kept free for it since 2 min: it needs more than is free anywhere. It starts there when enough has ended.
1 has not 8 cores and 8 GB free; 0 left
- end a VM on one of these nodes
`},
		{"another has the node", func(w *world) {
			w.node(2, func(n *cloud.Node) { resources(n); intel(n) })
			w.start("large", 4*time.Minute, func(i *cloud.Instance) { i.Public.Arch, i.VCPU, i.RAM = "amd64", 8, 8192 })
			w.start("i", time.Second, func(i *cloud.Instance) { i.Public.Arch, i.VCPU, i.RAM = "amd64", 1, 1024 })
		}, `held: The one node that could run it is full, or kept free for larger starts that wait longer. It starts when those have.
1 is kept free for larger starts that wait longer; 0 left
- end a VM on one of these nodes
- give it a priority with a lower number
`},
		{"it is kept for a node with the template", func(w *world) {
			w.report(w.node(0, nil), 0, template)
			w.node(0, nil)
			w.start("i", 400*time.Millisecond, nil)
		}, `image: Nothing is wrong: it is kept 0.6 s for mac-01, which has the template.
1 has not the template; it is kept 0.6 s for one that has it; 1 left
`},
		{"it is pinned to a node that is gone", func(w *world) {
			w.node(0, nil)
			id := w.node(0, nil)
			w.heard[id] = w.Now
			w.Delete(cloud.NodeLeaseRef(id))
			w.start("i", 41*time.Minute, func(i *cloud.Instance) { i.PinNode = id })
		}, `accepting: It is pinned to mac-02, which is offline: its last word was 41 min ago.
1 is not mac-02, which it asks for; 1 left
1 takes nothing now: 1 offline; 0 left
- bring a node back that is offline
- let it start on any node
`},
		{"it is pinned to no node", func(w *world) {
			w.node(0, nil)
			w.start("i", time.Second, func(i *cloud.Instance) { i.PinNode = "none" })
		}, "node: It is pinned to none, which is no node of the cloud.\n1 is not none, which it asks for; 0 left\n- let it start on any node\n"},
		{"devices", func(w *world) {
			w.node(0, nil)
			w.node(0, phones)
			w.start("i", time.Second, func(i *cloud.Instance) { i.Public.USBDevice = "iphone" })
		}, `usb_busy: USB group iphone: 2 devices, all in use. It starts when a VM that has one ends.
1 has no device of USB group iphone; 1 left
1 has no free device of USB group iphone (2 devices, all in use); 0 left
- attach one more device of USB group iphone
`},
		{"no device", func(w *world) {
			w.node(0, nil)
			w.start("i", time.Second, func(i *cloud.Instance) { i.Public.USBDevice = "iphone" })
		}, "usb: No node that could run it has a device of USB group iphone.\n1 has no device of USB group iphone; 0 left\n- attach one more device of USB group iphone\n"},
		{"no node is that big", func(w *world) {
			w.node(0, resources)
			w.start("i", time.Second, func(i *cloud.Instance) { i.VCPU, i.RAM = 16, 8192 })
		}, `size: No node is that big: it asks for 16 cores and 8 GB, the largest has 12 cores and 16 GB.
1 is too small: it asks for 16 cores and 8 GB, the largest has 12 cores and 16 GB; 0 left
- ask for fewer cores or less memory
`},
		{"no slots at all", func(w *world) {
			w.node(0, func(n *cloud.Node) { n.Settings.MaxVMCount = 0 })
			w.start("i", time.Second, nil)
		}, "size: The one node that could run it is set to run no VMs: max_vm_count is 0.\n1 is set to run no VMs; 0 left\n"},
		{"the other processor", func(w *world) { w.node(0, intel); w.start("i", time.Second, nil) },
			"arch: No node is arm64, which its template needs.\n1 is amd64, it needs arm64; 0 left\n- join a node that is arm64\n"},
		{"nobody in the group", func(w *world) {
			w.Put(cloud.GroupRef("f"), api.Group{ID: "f", Name: "mac"})
			w.Put(cloud.GroupRef("g"), api.Group{ID: "g", Name: "ios", FallbackGroupID: new(api.GroupID("f"))})
			w.node(0, nil)
			w.start("i", time.Second, func(i *cloud.Instance) { i.Public.GroupID = "g" })
		}, "group: No node that could run it is in group ios nor its fallback mac.\n1 is not in group ios nor its fallback mac; 0 left\n- add a node to group ios\n- let it start in any group\n"},
		{"handed back", func(w *world) {
			id := w.node(0, nil)
			w.start("i", time.Second, nil)
			if err := w.Update(w.t, "i", func(i *cloud.Instance) error {
				i.Avoid = []cloud.Avoid{{Node: id, At: w.Now, Why: "no space left on device"}}
				return nil
			}); err != nil {
				w.t.Fatal(err)
			}
			w.Pass(2 * time.Second)
		}, `avoided: mac-01 handed it back ("no space left on device"), and no other node could run it. It is asked again in 2 s.
1 handed it back; is asked again in 2 s; 0 left
back from mac-01 "no space left on device" again in 2 s
- mend what the node says
`},
		{"licence and upgrades", func(w *world) {
			w.node(0, func(n *cloud.Node) { n.Facts.LicenseValid, n.Facts.Inactive = false, "no keychain is open" })
			w.start("i", time.Second, nil)
		}, `accepting: The one node that could run it, mac-01, is inactive: no keychain is open.
1 takes nothing now: 1 without licence; 0 left
- see why a node is inactive: ` + "`ankacluster doctor`" + ` there
`},
		{"it can start", func(w *world) { w.node(0, nil); w.start("i", 3*time.Second, nil) },
			"fits: Nothing is wrong: 1 node can take it now (mac-01), and one should within moments.\n"},
		{"no node takes it", func(w *world) {
			for range 5 {
				w.node(0, nil)
			}
			w.start("i", 30*time.Second, nil)
		}, "fits: 5 nodes could take it now (mac-01, mac-02, mac-03, 2 more), and none has in the 30 s that it waits: see whether their agents reach the controllers.\n- run `ankacluster status` on mac-01\n"},
		{"others go before", func(w *world) {
			w.node(1, nil)
			w.start("a", 0, nil)
			w.start("b", 0, nil)
			w.start("i", 10*time.Second, nil)
		}, "queue: There is room for 1 now on mac-01, and 2 starts go before it. It starts when more room comes free.\n- end a VM on one of these nodes\n- give it a priority with a lower number\n"},
		{"etcd is full", func(w *world) {
			w.stuck = "etcd alarm NOSPACE at member 1"
			w.node(0, nil)
			w.start("i", 3*time.Second, nil)
		}, "etcd: No start is taken at present: etcd takes no writes (etcd alarm NOSPACE at member 1).\n- make room in etcd and lift its alarm\n"},
		{"it runs", func(w *world) {
			id := w.node(1, nil)
			w.start("i", time.Second, func(i *cloud.Instance) {
				i.Public.InstanceState, i.Public.NodeID, i.Claim = api.Started, id, &cloud.Claim{Node: id}
			})
		}, "placed: It does not wait for a node: it is Started on mac-01.\n"},
		{"it failed", func(w *world) {
			w.start("i", time.Second, func(i *cloud.Instance) {
				i.Public.InstanceState, i.Public.Message = api.Error, "No node took it in a day."
			})
		}, "placed: It does not wait for a node: it is Error: No node took it in a day.\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{World: cloudtest.New(), t: t, heard: make(map[api.NodeID]time.Time)}
			tc.build(w)
			y, err := w.asker().Instance("i")
			if err != nil {
				t.Fatal(err)
			}
			if got := tell(y); got != tc.want {
				t.Errorf("%s:\ngot  %s\nwant %s", tc.name, got, tc.want)
			}
			if y.Fit.IDs == nil || y.Rules == nil || y.HandedBack == nil || y.Advice == nil {
				t.Errorf("%s: an empty list is null: %+v", tc.name, y)
			}
		})
	}
}

func TestARequestIsToldOfAndNotStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{World: cloudtest.New(), t: t}
		w.node(0, nil)
		w.start("a", 0, nil)
		asked := func() api.Why {
			return w.asker().Request(&cloud.Instance{
				Public: api.Instance{InstanceID: "new", InstanceState: api.Scheduling, Arch: "arm64"}, Attempt: 1, Priority: 1000,
				Template: api.TemplateRef{ID: "xcode", Tag: "v9"},
			})
		}
		y := asked()
		if got, want := tell(y), "fits: It would start now: 1 node could take it (mac-01), and 1 start goes before it.\n"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if y.Place != 2 || y.Waiting != 2 || y.InstanceID != "" || y.State != "" || y.Waited != 0 || len(w.View.Pending()) != 1 {
			t.Errorf("got %+v, and %d wait", y, len(w.View.Pending()))
		}
		w.report("m1", 2)
		if y := asked(); y.Cause != api.CauseFull || y.Fit.Count != 0 {
			t.Errorf("on a full node: %+v", y)
		}
	})
}

func TestOnlyTheFirstNodesAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{World: cloudtest.New(), t: t}
		for range 3 * api.MaxWhyNodes {
			w.report(w.node(0, nil), 2, template)
		}
		w.start("i", time.Second, nil)
		y, err := w.asker().Instance("i")
		full := y.Rules[0].Excluded
		if err != nil || full.Count != 60 || full.WithTag != 60 || len(full.IDs) != api.MaxWhyNodes || full.IDs[0] != "m1" || full.IDs[1] != "m10" || full.IDs[19] != "m27" {
			t.Errorf("got %+v, %v", full, err)
		}
		if _, err := w.asker().Instance("none"); !errors.Is(err, cloud.ErrNotFound) {
			t.Errorf("an instance that is not there: %v", err)
		}
	})
}

func BenchmarkWhy(b *testing.B) {
	w := &world{World: cloudtest.New(), t: b}
	for k := range 10000 {
		w.report(w.node(0, nil), k%3, template, api.NodeImage{UUID: "other", Tag: "v1"}, api.NodeImage{UUID: "third", Tag: "v1"})
	}
	for k := range 100 {
		w.start(api.InstanceID(fmt.Sprint("i", k)), time.Second, nil)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.asker().Instance("i99"); err != nil {
			b.Fatal(err)
		}
	}
}
