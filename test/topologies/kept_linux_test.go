package topologies

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/registryapi"
	taghistory "github.com/ankacluster/ankacluster/test/history/tags"
)

// pushTemplate pushes a small VM to a host's registry and returns its id.
func (c *threeHosts) pushTemplate(n *node, i int) string {
	c.t.Helper()
	if err := n.anka("create", "demo", "--size", "1M"); err != nil {
		c.t.Fatal(err)
	}
	if err := n.anka("registry", "-o2", "-r", "http://"+hostAddrs[i]+":8089", "push", "demo", "-t", "v1"); err != nil {
		c.t.Fatal(err)
	}
	return c.template(i)
}

// copies asks host i which hosts have which tags.
func (c *threeHosts) copies(i int) ([]registryapi.TagCopies, error) {
	out, err := c.curl(i, "http://127.0.0.1:8089/registry/v1/copies")
	if err != nil {
		return nil, err
	}
	var answer struct{ Body []registryapi.TagCopies }
	return answer.Body, json.Unmarshal([]byte(out), &answer)
}

// waitCopies waits until every tag is on every host.
func (c *threeHosts) waitCopies(i int) {
	c.t.Helper()
	eventually(c.t, "all copies are back", func() error {
		list, err := c.copies(i)
		if err != nil {
			return err
		}
		for _, tag := range list {
			if len(tag.Hosts) != len(c.hosts) {
				return fmt.Errorf("%s:%s is on %v", tag.Repository, tag.Tag, tag.Hosts)
			}
		}
		if len(list) == 0 {
			return fmt.Errorf("no tag is known")
		}
		return nil
	})
}

// role starts this test's executable on a host, as what the variable says.
func (h *host) role(t *testing.T, name, variable, value string) *process {
	p := newProcess(t, name, func() *exec.Cmd {
		cmd := h.command(os.Args[0])
		cmd.Env = append(os.Environ(), variable+"="+value)
		return cmd
	})
	p.start()
	return p
}

// TestThreeHostsKeepTheirTemplates: a template that was pushed to one host outlives
// each of them, disk included. VMs of it start and lists are read at every
// controller all the time: no list lacks it, no start is refused, and every host
// has it again in the end.
func TestThreeHostsKeepTheirTemplates(t *testing.T) {
	long(t)
	c := newThreeHosts(t)
	for _, p := range c.controllers {
		p.start()
	}
	c.waitReady(0, 1, 2)
	c.waitWhole(0)
	nodes := []*node{c.newNode("10.0.1.10"), c.newNode("10.0.1.11")}
	template := c.pushTemplate(nodes[0], 0)
	for _, n := range nodes {
		n.join()
	}
	eventually(t, "both nodes are active", func() error {
		out, err := c.curl(0, "http://127.0.0.1/api/v1/node")
		if err == nil && strings.Count(out, `"state":"Active"`) != len(nodes) {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	for i := range c.hosts {
		c.templateAt(i, "http://127.0.0.1")
	}
	reader := nodes[0].host.role(t, "reader of lists", listsVar, template+","+strings.Join(c.urls(), ","))
	driver := newProcess(t, "driver", func() *exec.Cmd {
		cmd := nodes[0].host.command(os.Args[0])
		cmd.Env = append(os.Environ(), driverVar+"="+strings.Join(c.urls(), ","), driverTemplate+"="+template)
		return cmd
	})
	driver.start()
	waitVMs(t, driver, 4, "before any fault")
	for i, h := range c.hosts {
		other := (i + 1) % len(c.hosts)
		t.Logf("%s: kill -9, and its disk is gone", h.addr)
		c.controllers[i].kill()
		if err := os.RemoveAll(c.dirs[i]); err != nil {
			t.Fatal(err)
		}
		waitVMs(t, driver, 4, "while "+h.addr+" is dead")
		c.controllers[i].start()
		c.waitReady(i)
		c.waitWhole(other)
		c.waitCopies(other)
		c.waitCopies(i)
	}
	waitVMs(t, driver, 4, "after all faults")
	if code := driver.stop(); code != 0 {
		t.Errorf("driver ended with %d: %s", code, driver.tail(3))
	}
	if code := reader.stop(); code != 0 {
		t.Errorf("reader ended with %d: %s", code, reader.tail(3))
	}
	judge(t, driver, []vmHost{nodes[0], nodes[1]}, longestStall)
	lists := 0
	for _, e := range told(t, reader, func(event) bool { return true }) {
		if e.Kind == "lists" {
			lists, _ = strconv.Atoi(e.ID)
		} else {
			t.Errorf("%s: %s", e.Kind, e.Err)
		}
	}
	t.Logf("%d lists were read at three controllers, each with the template", lists)
	if lists < 100 {
		t.Error("too few lists were read: this proves little")
	}
}

// TestTagsAreTheSameOnBothSidesOfACut: hosts are cut off, one after another, while
// tags are pushed, deleted, reverted and read at each host's own registry. The
// history of each repository is one that a single registry could have:
// docs/replication.md.
func TestTagsAreTheSameOnBothSidesOfACut(t *testing.T) {
	long(t)
	c := newThreeHosts(t)
	for _, p := range c.controllers {
		p.start()
	}
	c.waitReady(0, 1, 2)
	c.waitWhole(0)
	var clients []*process
	for _, h := range c.hosts {
		clients = append(clients, h.role(t, "tags at "+h.addr, tagsVar, "http://127.0.0.1:8089"))
	}
	progress := func(which ...int) {
		t.Helper()
		for _, i := range which {
			before := strings.Count(clients[i].text(), `"ok":true`)
			eventually(t, "changes at "+hostAddrs[i], func() error {
				if n := strings.Count(clients[i].text(), `"ok":true`) - before; n < 15 {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
		}
	}
	progress(0, 1, 2)
	for i, h := range c.hosts {
		t.Logf("%s: cut off", h.addr)
		h.cut()
		progress((i+1)%3, (i+2)%3)
		h.heal()
		c.waitWhole((i + 1) % 3)
		progress(0, 1, 2)
	}
	var ops []taghistory.Op
	for _, p := range clients {
		if code := p.stop(); code != 0 {
			t.Errorf("%s ended with %d: %s", p.name, code, p.tail(3))
		}
		ops = append(ops, told(t, p, func(taghistory.Op) bool { return true })...)
	}
	judgeTags(t, ops)
}

// judgeTags asks porcupine for an order of each repository's operations.
func judgeTags(t *testing.T, ops []taghistory.Op) {
	t.Helper()
	counts, errs := taghistory.Check(ops, t.ArtifactDir(), time.Minute)
	for _, err := range errs {
		t.Error(err)
	}
	n := counts.ByKind
	t.Logf("%d operations: %v were answered, %d changes were not", len(ops), n, counts.Unknown)
	if n[taghistory.Put] < 50 || n[taghistory.Read] < 50 || n[taghistory.Delete] < 10 || n[taghistory.Revert] < 10 {
		t.Error("too few operations: this proves little")
	}
}
