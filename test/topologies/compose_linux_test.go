package topologies

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/registryapi"
)

// freePort is a port of this machine that nothing has now, on any address.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// TestComposeSingleHost runs deploy/compose/single-host.yaml as its first lines
// say: a Mac on another network joins the published ports, containers die one
// after another, and one loses its network.
func TestComposeSingleHost(t *testing.T) {
	long(t)
	e := newEngine(t)
	macs := e.newBridge("macs")
	ports := []string{freePort(t), freePort(t), freePort(t)}
	address := macs.gateway // this machine as the Macs see it
	c := e.newCompose("", "single-host.yaml", "ADDRESS="+address,
		"CONTROLLER_1_PORT="+ports[0], "CONTROLLER_2_PORT="+ports[1], "REGISTRY_PORT="+ports[2])
	c.run("up", "-d")
	c.waitHealthy("registry", "controller-1", "controller-2")

	mac := e.newBox("mac", macs.name)
	urls := fmt.Sprintf("http://%s:%s,http://%s:%s", address, ports[0], address, ports[1])
	registry := "http://" + address + ":" + ports[2]
	mac.createAndPush("demo", "8M", registry)
	template := mac.template("http://" + address + ":" + ports[1])
	mac.join(urls)

	driver := mac.drive(urls, template)
	waitVMs(t, driver, 8, "before any fault")
	for _, s := range []string{"controller-1", "controller-2"} {
		c.crash(s)
		waitVMs(t, driver, 8, "after "+s+" crashed")
		c.waitHealthy(s)
		e.docker("kill", c.container(s)) // as a person does: nothing brings it back by itself
		waitVMs(t, driver, 8, "while "+s+" is killed")
		e.docker("start", c.container(s))
		c.waitHealthy(s)
	}
	id := c.container("controller-1")
	e.docker("network", "disconnect", c.project+"_default", id)
	waitVMs(t, driver, 8, "while controller-1 is cut off")
	e.docker("network", "connect", "--alias", "controller-1", c.project+"_default", id)
	c.waitHealthy("controller-1")
	waitVMs(t, driver, 8, "with all back")
	if code := driver.stop(); code != 0 {
		t.Errorf("driver ended with %d: %s", code, driver.tail(3))
	}
	judge(t, driver, []vmHost{mac}, longestStall)

	// There is one etcd and one registry: what needs them waits, nothing is lost.
	driver = mac.drive(urls, template)
	waitVMs(t, driver, 8, "again")
	for _, s := range []string{"etcd", "registry"} {
		c.crash(s)
		waitVMs(t, driver, 8, "after "+s+" crashed")
	}
	c.run("restart", "-t", "20")
	c.waitHealthy("registry", "controller-1", "controller-2")
	waitVMs(t, driver, 8, "after docker compose restart")
	if code := driver.stop(); code != 0 {
		t.Errorf("driver ended with %d: %s", code, driver.tail(3))
	}
}

// TestComposeThreeHosts runs deploy/compose/three-hosts.yaml on three hosts, each
// the network of a container of its own: a controller on each, with a built-in
// etcd member and registry. Every host is killed and cut off in turn, and one loses
// its volumes. What was pushed to one host is at all.
func TestComposeThreeHosts(t *testing.T) {
	long(t)
	e := newEngine(t)
	lan := e.newBridge("lan")
	var hosts []*box
	var addrs, urls []string
	for i := range 3 {
		addr := lan.addr(11 + i)
		addrs = append(addrs, addr)
		urls = append(urls, "http://"+addr+":8090")
		hosts = append(hosts, e.newBox(fmt.Sprintf("host%d", i+1), lan.name, "--ip", addr))
	}
	var projects []*compose
	for i, h := range hosts {
		projects = append(projects, e.newCompose(fmt.Sprintf("h%d", i+1), "three-hosts.yaml",
			"HOSTS="+strings.Join(addrs, ","), "HOST="+addrs[i], "NETWORK_MODE=container:"+h.name))
	}
	for _, i := range []int{2, 0, 1} { // not the order of the list
		projects[i].run("up", "-d")
	}
	for _, p := range projects {
		p.waitHealthy("controller")
	}

	mac, second := e.newBox("mac", lan.name), e.newBox("mac2", lan.name)
	// copies waits until all hosts have so many tags, and "latest", on their disks, and
	// each says so.
	copies := func(tags int) {
		t.Helper()
		for _, a := range addrs {
			eventually(t, "copies of all tags, as "+a+" knows them", func() error {
				out, err := mac.get("http://" + a + ":8089/registry/v1/copies")
				if err != nil {
					return err
				}
				var answer struct{ Body []registryapi.TagCopies }
				if err := json.Unmarshal([]byte(out), &answer); err != nil {
					return err
				}
				whole := 0
				for _, tag := range answer.Body {
					if len(tag.Hosts) == len(hosts) {
						whole++
					}
				}
				if whole != tags+1 {
					return fmt.Errorf("%s", out)
				}
				return nil
			})
		}
	}
	mac.createAndPush("demo", "32M", "http://"+addrs[0]+":8089")
	for _, u := range urls[1:] { // known there as soon as it is acknowledged
		if out, err := mac.get(u + "/api/v1/registry/vm"); err != nil || !strings.Contains(out, `"demo"`) {
			t.Errorf("%s does not list what was pushed to %s: %v %s", u, addrs[0], err, out)
		}
	}
	template := mac.template(urls[2])
	copies(1)
	all := strings.Join(urls, ",")
	mac.join(all)
	second.join(all)

	driver := mac.drive(all, template)
	waitVMs(t, driver, 8, "before any fault")
	for i, p := range projects {
		next := (i + 1) % len(projects)
		if i == 1 { // its volumes are gone, too
			p.run("kill")
			p.run("down", "-v")
		} else {
			e.docker("kill", p.container("controller"))
		}
		tag := fmt.Sprintf("while%d", i+1)
		if _, err := mac.exec("/fakeanka", "registry", "-o2", "-r", "http://"+addrs[next]+":8089", "push", "demo", "-t", tag); err != nil {
			t.Errorf("push to %s while %s is dead: %v", addrs[next], addrs[i], err)
		}
		if id := mac.template(urls[next]); id != template {
			t.Errorf("while %s is dead, %s lists template %s, want %s", addrs[i], addrs[next], id, template)
		}
		waitVMs(t, driver, 8, "while "+addrs[i]+" is dead")
		if i == 1 {
			p.run("up", "-d")
		} else {
			e.docker("start", p.container("controller"))
		}
		p.waitHealthy("controller")
		copies(i + 2)

		e.docker("network", "disconnect", lan.name, hosts[i].name)
		waitVMs(t, driver, 8, "while "+addrs[i]+" is cut off")
		e.docker("network", "connect", "--ip", addrs[i], lan.name, hosts[i].name)
		p.waitHealthy("controller")
	}
	waitVMs(t, driver, 8, "after all faults")
	if code := driver.stop(); code != 0 {
		t.Errorf("driver ended with %d: %s", code, driver.tail(3))
	}
	judge(t, driver, []vmHost{mac, second}, longestStall)
}
