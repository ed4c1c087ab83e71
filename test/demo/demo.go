package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/test/localcloud"
)

const (
	nodeName     = "demo-node"
	templateName = "demo"
	templateSize = "64M"

	// vmTimeout bounds what takes a second or two on an idle machine.
	vmTimeout = 30 * time.Second
)

// demo tells the failover story and leaves nothing behind.
func demo(ctx context.Context, bin string) (err error) {
	began := time.Now()
	dir, err := os.MkdirTemp("", "ankacluster-demo-")
	if err != nil {
		return err
	}
	ports, err := localcloud.FreePorts(12)
	if err != nil {
		return err
	}
	var hosts []localcloud.Ports
	for p := range slices.Chunk(ports, 4) {
		hosts = append(hosts, localcloud.Ports{Controller: p[0], Registry: p[1], Client: p[2], Peer: p[3]})
	}
	cloud, err := localcloud.New(localcloud.Config{Bin: bin, Dir: dir, NodeName: nodeName, Hosts: hosts})
	if err != nil {
		return err
	}
	defer func() {
		// A new context: after an interrupt the clean-up must still happen.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), 40*time.Second)
		defer cancel()
		stopErr := cloud.Stop(cleanup)
		if err != nil && !errors.Is(err, context.Canceled) {
			fmt.Printf("\nthe logs are kept in %s\n", filepath.Join(dir, "log"))
			return
		}
		err = errors.Join(err, stopErr, os.RemoveAll(dir))
	}()

	d := &teller{story: story{out: os.Stdout}, cloud: cloud}
	d.build(ctx)
	d.loseHosts(ctx)
	d.loseTemplates(ctx)
	d.tidyUp(ctx)
	if d.err == nil {
		fmt.Printf("\nAll %d steps were as expected, in %s.\n", d.next, time.Since(began).Round(time.Second))
		fmt.Println("Next: `make up` leaves this cloud running; `bin/ankacluster drill` breaks more.")
	}
	return d.err
}

// teller carries what the steps of the demo share.
type teller struct {
	story
	cloud     *localcloud.Cloud
	instances []controllerapi.InstanceID
}

var letters = []string{"A", "B", "C"}

// controller returns a client that talks to one controller only.
func (d *teller) controller(i int) *controllerapi.Client {
	return controllerapi.NewClient(d.cloud.ControllerURL(i), &http.Client{Timeout: 10 * time.Second})
}

func (d *teller) build(ctx context.Context) {
	d.say("A cloud on this machine: three hosts A, B and C, each with controller, registry and etcd member in one process, and one node. All are real processes " +
		"but the node's hypervisor, a fake anka that runs no macOS: so a VM boots at once.")
	d.step(ctx, "start anka-controller --standalone --cluster A,B,C on each", "every /readyz answers 200", func(ctx context.Context) (string, error) {
		return "3 controllers, 3 registries that are one, 3 etcd members are ready", d.cloud.Start(ctx)
	})
	d.step(ctx, "ankacluster join --controllers A,B,C", "the cloud lists the node as Active", func(ctx context.Context) (string, error) {
		if _, err := d.cloud.Join(ctx, "--max-vm-count", "8", "--ignore-arm-vm-limit"); err != nil {
			return "", err
		}
		return d.nodeActive(ctx, 0)
	})
	d.step(ctx, "push template \"demo\" with tag v1 ("+templateSize+"B) to A", "B lists template and tag at once", func(ctx context.Context) (string, error) {
		if _, err := d.cloud.Anka(ctx, "create", templateName, "--size", templateSize); err != nil {
			return "", err
		}
		return d.push(ctx, 0, "v1", 1)
	})
	d.step(ctx, "start a VM through A", "Started, and B and C show the same instance", func(ctx context.Context) (string, error) {
		return d.start(ctx, 0, "v1", 0, 1, 2)
	})
}

func (d *teller) loseHosts(ctx context.Context) {
	d.say("Hosts fail while VMs start; the node carries on with the rest.")
	d.step(ctx, "kill A (SIGKILL) while 3 VMs start", "all are Started, the node stays Active", func(ctx context.Context) (string, error) {
		return d.startWhile(ctx, d.cloud.Hosts[0].Kill, 1, 2)
	})
	d.step(ctx, "bring A back", "it is ready and lists the same instances", func(ctx context.Context) (string, error) {
		if err := d.cloud.StartHost(ctx, 0); err != nil {
			return "", err
		}
		return fmt.Sprintf("%d instances at A", len(d.instances)), d.listed(ctx, 0, d.instances)
	})
	d.step(ctx, "hang B (SIGSTOP) while 3 VMs start", "all are Started, the node stays Active", func(ctx context.Context) (string, error) {
		return d.startWhile(ctx, func() error { return d.cloud.Hosts[1].Signal(syscall.SIGSTOP) }, 2, 0)
	})
	d.step(ctx, "let B go on (SIGCONT)", "it is ready and lists the same instances", func(ctx context.Context) (string, error) {
		if err := d.cloud.Hosts[1].Signal(syscall.SIGCONT); err != nil {
			return "", err
		}
		if err := d.cloud.AwaitHost(ctx, 1); err != nil {
			return "", err
		}
		return fmt.Sprintf("%d instances at B", len(d.instances)), d.listed(ctx, 1, d.instances)
	})
}

// startWhile breaks a controller between three starts, waits until all of them are
// Started and the node has met the broken one, and tells what the node sent.
func (d *teller) startWhile(ctx context.Context, fail func() error, well ...int) (string, error) {
	before, err := d.sent(ctx)
	if err != nil {
		return "", err
	}
	registry := registryapi.NewClient(d.cloud.RegistryURL(well[0]), &http.Client{Timeout: 10 * time.Second})
	template, err := findTemplate(ctx, registry)
	if err != nil {
		return "", err
	}
	const vms = 3
	var ids []controllerapi.InstanceID
	for n := range vms {
		if n == 1 {
			if err := fail(); err != nil {
				return "", err
			}
		}
		started, err := d.controller(well[n%len(well)]).Start(ctx, controllerapi.StartRequest{VMID: controllerapi.TemplateID(template.ID), Tag: "v1"})
		if err != nil {
			return "", err
		}
		ids = append(ids, started...)
	}
	d.instances = append(d.instances, ids...)
	for _, id := range ids {
		if _, err := d.waitState(ctx, well[0], id, controllerapi.Started); err != nil {
			return "", err
		}
	}
	if err := d.staysActive(ctx, well...); err != nil {
		return "", err
	}
	after, err := d.sent(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d VMs Started, node Active throughout; of its %d requests %d failed, %d were repeated elsewhere",
		vms, after.requests-before.requests, after.failed-before.failed, after.repeated-before.repeated), nil
}

// traffic is what the node has sent to the controllers so far.
type traffic struct{ requests, failed, repeated uint64 }

func (d *teller) sent(ctx context.Context) (t traffic, err error) {
	out, err := d.cloud.Ankacluster(ctx, "endpoints", "--json")
	if err != nil {
		return t, err
	}
	var pools map[string]balancer.Status
	if err := json.Unmarshal([]byte(out), &pools); err != nil {
		return t, err
	}
	s := pools["controllers"]
	t.repeated = s.Retries
	for _, e := range s.Endpoints {
		t.requests += e.Requests
		t.failed += e.Failures
	}
	return t, nil
}

func (d *teller) loseTemplates(ctx context.Context) {
	d.say("A host is lost with its disk, just after a tag was pushed to it; the node pulls the tag from another.")
	d.step(ctx, "push tag v2 to C, kill C, remove its disk", "A lists the tag", func(ctx context.Context) (string, error) {
		seen, err := d.push(ctx, 2, "v2", 0)
		if err != nil {
			return "", err
		}
		// The node must pull v2 afresh, so its local copy has to go.
		if _, err := d.cloud.Anka(ctx, "delete", "--yes", "--cache", templateName); err != nil {
			return "", err
		}
		return seen + "; C and its disk are gone", d.cloud.LoseHost(2)
	})
	d.step(ctx, "start a VM of tag v2 through B", "pulled from A or B, Started", func(ctx context.Context) (string, error) {
		return d.start(ctx, 1, "v2", 0, 1)
	})
	d.step(ctx, "bring C back with an empty disk", "it copies what it lacks: every tag is on three hosts", d.copiesAreBack)
}

// copiesAreBack starts host C and waits until every host has every tag.
func (d *teller) copiesAreBack(ctx context.Context) (string, error) {
	if err := d.cloud.StartHost(ctx, 2); err != nil {
		return "", err
	}
	registry := registryapi.NewClient(d.cloud.RegistryURL(2), &http.Client{Timeout: 10 * time.Second})
	ctx, cancel := context.WithTimeout(ctx, 2*vmTimeout)
	defer cancel()
	for {
		tags, err := registry.Copies(ctx)
		if err == nil && !slices.ContainsFunc(tags, func(t registryapi.TagCopies) bool { return len(t.Hosts) < 3 }) {
			return fmt.Sprintf("%d tags, each on 3 hosts", len(tags)), nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("copies after %s: %+v, %w", 2*vmTimeout, tags, errors.Join(err, ctx.Err()))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *teller) tidyUp(ctx context.Context) {
	d.say("Everything ends.")
	d.step(ctx, "list the instances at A, B and C", "the same at each", func(ctx context.Context) (string, error) {
		for i := range d.cloud.Hosts {
			if err := d.listed(ctx, i, d.instances); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("%d instances on each of A, B and C", len(d.instances)), nil
	})
	d.step(ctx, "terminate all instances through A", "no instance and no VM is left", d.terminateAll)
	d.step(ctx, "ankacluster disjoin", "the cloud lists no node", func(ctx context.Context) (string, error) {
		if err := d.cloud.Disjoin(ctx); err != nil {
			return "", err
		}
		nodes, err := d.controller(1).Nodes(ctx)
		if err != nil {
			return "", err
		}
		if len(nodes) != 0 {
			return "", fmt.Errorf("controller B still lists %d node(s)", len(nodes))
		}
		return "no node is listed, the agent has ended", nil
	})
}

// push pushes the node's template to host i; host seenBy must list the tag.
func (d *teller) push(ctx context.Context, i int, tag string, seenBy int) (string, error) {
	if _, err := d.cloud.Anka(ctx, "registry", "-o2", "-r", d.cloud.RegistryURL(i), "push", templateName, "-t", tag); err != nil {
		return "", err
	}
	registry := registryapi.NewClient(d.cloud.RegistryURL(seenBy), &http.Client{Timeout: 10 * time.Second})
	template, err := findTemplate(ctx, registry)
	if err != nil {
		return "", err
	}
	full, err := registry.Template(ctx, template.ID)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(full.Versions, func(v registryapi.Version) bool { return v.Tag == tag }) {
		return "", fmt.Errorf("host %s does not list tag %s", letters[seenBy], tag)
	}
	return fmt.Sprintf("template %s, tag %s, %d MB", full.Name, tag, full.Size>>20), nil
}

func findTemplate(ctx context.Context, registry *registryapi.Client) (registryapi.Template, error) {
	templates, err := registry.Templates(ctx)
	if err != nil {
		return registryapi.Template{}, err
	}
	for _, t := range templates {
		if t.Name == templateName {
			return t, nil
		}
	}
	return registryapi.Template{}, fmt.Errorf("the registry lists no template %q", templateName)
}

// start asks controller via for an instance, waits until it is Started and
// checks that every controller in seenBy shows the same.
func (d *teller) start(ctx context.Context, via int, tag string, seenBy ...int) (string, error) {
	registry := registryapi.NewClient(d.cloud.RegistryURL(via), &http.Client{Timeout: 10 * time.Second})
	template, err := findTemplate(ctx, registry)
	if err != nil {
		return "", err
	}
	ids, err := d.controller(via).Start(ctx, controllerapi.StartRequest{VMID: controllerapi.TemplateID(template.ID), Tag: tag})
	if err != nil {
		return "", err
	}
	d.instances = append(d.instances, ids...)
	for _, i := range seenBy { // at once: acknowledged by one is known by all
		if err := d.listed(ctx, i, ids); err != nil {
			return "", err
		}
	}
	instance, err := d.waitState(ctx, via, ids[0], controllerapi.Started)
	if err != nil {
		return "", err
	}
	for _, i := range seenBy {
		other, err := d.controller(i).Instance(ctx, ids[0])
		if err != nil {
			return "", fmt.Errorf("ask controller %s: %w", letters[i], err)
		}
		if other.InstanceState != controllerapi.Started {
			return "", fmt.Errorf("controller %s shows %s, controller %s %s", letters[via], instance.InstanceState, letters[i], other.InstanceState)
		}
	}
	return fmt.Sprintf("instance %.8s is Started", ids[0]), nil
}

// waitState polls controller i until the instance has the state.
func (d *teller) waitState(ctx context.Context, i int, id controllerapi.InstanceID, want controllerapi.InstanceState) (controllerapi.Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, vmTimeout)
	defer cancel()
	for {
		instance, err := d.controller(i).Instance(ctx, id)
		if err != nil {
			return instance, err
		}
		if instance.InstanceState == want {
			return instance, nil
		}
		if instance.InstanceState == controllerapi.Error {
			return instance, fmt.Errorf("instance is in Error: %s", instance.Message)
		}
		select {
		case <-ctx.Done():
			return instance, fmt.Errorf("instance is still %s after %s", instance.InstanceState, vmTimeout)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// listed checks that controller i lists every one of ids.
func (d *teller) listed(ctx context.Context, i int, ids []controllerapi.InstanceID) error {
	list, err := d.controller(i).Instances(ctx)
	if err != nil {
		return fmt.Errorf("list at controller %s: %w", letters[i], err)
	}
	for _, id := range ids {
		if !slices.ContainsFunc(list, func(l controllerapi.ListedInstance) bool { return l.InstanceID == id }) {
			return fmt.Errorf("controller %s does not list instance %s, which was acknowledged", letters[i], id)
		}
	}
	return nil
}

func (d *teller) nodeActive(ctx context.Context, i int) (string, error) {
	nodes, err := d.controller(i).Nodes(ctx)
	if err != nil {
		return "", fmt.Errorf("list nodes at controller %s: %w", letters[i], err)
	}
	if len(nodes) != 1 || nodes[0].State != controllerapi.NodeActive {
		return "", fmt.Errorf("controller %s lists %+v", letters[i], nodes)
	}
	return fmt.Sprintf("%s is Active at controller %s", nodes[0].NodeName, letters[i]), nil
}

// staysActive watches for two heartbeat intervals, in which the agent is bound to
// meet the broken controller.
func (d *teller) staysActive(ctx context.Context, controllers ...int) error {
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, i := range controllers {
			if _, err := d.nodeActive(ctx, i); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return nil
		case <-tick.C:
		}
	}
}

func (d *teller) terminateAll(ctx context.Context) (string, error) {
	for _, id := range d.instances {
		if err := d.controller(0).Terminate(ctx, id); err != nil {
			return "", err
		}
	}
	deadline := time.Now().Add(vmTimeout)
	for {
		list, err := d.controller(1).Instances(ctx)
		if err != nil {
			return "", err
		}
		left := 0
		for _, l := range list {
			if l.VM.InstanceState != controllerapi.Terminated {
				left++
			}
		}
		vms, err := d.cloud.Anka(ctx, "--machine-readable", "list", "-r")
		if err != nil {
			return "", err
		}
		running := strings.Count(vms, `"uuid"`)
		if left == 0 && running == 0 {
			return fmt.Sprintf("%d instances ended, no VM runs", len(d.instances)), nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("%d instances and %d VMs are left after %s", left, running, vmTimeout)
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}
