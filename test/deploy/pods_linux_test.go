package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// patience bounds what no probe of the chart bounds; on a machine with nothing
// else to do all of it takes seconds.
const patience = 2 * time.Minute

// node plays a Kubernetes node, as far as a pod can tell: it runs what the chart
// rendered as containers, with the command, environment, volumes, user and
// limits of the manifests, answers for its services, asks the probes, and ends
// pods as the kubelet does.
type node struct {
	t         *testing.T
	name      string
	namespace string
	services  []*corev1.Service
	pods      []*pod
	tests     []*corev1.Pod // of `helm test`
}

// pod is one pod of a controller's template.
type pod struct {
	node     *node
	name     string // as Kubernetes would name it
	template corev1.PodTemplateSpec
	spec     *corev1.Container
	claims   []string // names of volumes that outlive it
	headless string   // service that gives it a name of its own

	container string
	ports     map[string]string // of the machine's loopback, by name
}

func newNode(t *testing.T) *node {
	t.Helper()
	if os.Getenv("ANKA_TEST_TOPOLOGIES") == "" {
		t.Skip("SKIPPED: runs in make test-topologies")
	}
	if out, err := exec.Command("docker", "info", "--format", "{{.ServerVersion}}").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: needs a running Docker engine: %v: %s", err, bytes.TrimSpace(out))
	}
	n := &node{t: t, name: fmt.Sprintf("ankapods%d", os.Getpid()), namespace: "ci"}
	n.buildImages()
	n.docker("network", "create", n.name)
	t.Cleanup(func() {
		if ids := strings.Fields(n.docker("ps", "-aq", "--filter", "label=node="+n.name)); len(ids) > 0 {
			n.docker(append([]string{"rm", "-f", "-v"}, ids...)...)
		}
		if ids := strings.Fields(n.docker("volume", "ls", "-q", "--filter", "label=node="+n.name)); len(ids) > 0 {
			n.docker(append([]string{"volume", "rm"}, ids...)...)
		}
		n.docker("network", "rm", n.name)
		n.docker("rmi", n.name+"/anka-controller:test", n.name+"/anka-registry:test", n.name+"/kubeproxy:test")
	})
	return n
}

func (n *node) docker(args ...string) string {
	n.t.Helper()
	cmd := exec.Command("docker", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		n.t.Fatalf("docker %s: %v: %s%s", strings.Join(args, " "), err, stderr.Bytes(), out)
	}
	return strings.TrimSpace(string(out))
}

func (n *node) buildImages() {
	n.t.Helper()
	dir := n.t.TempDir()
	must := func(cmd *exec.Cmd) {
		n.t.Helper()
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			n.t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
		}
	}
	must(exec.Command("go", "-C", "../..", "build", "-trimpath", "-o", dir+"/", "./cmd/anka-controller", "./cmd/anka-registry"))
	must(exec.Command("go", "build", "-o", dir+"/", "./kubeproxy"))
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "data"), 0o755),
		os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY kubeproxy /\nENTRYPOINT [\"/kubeproxy\"]\n"), 0o644)); err != nil {
		n.t.Fatal(err)
	}
	for _, target := range []string{"controller", "registry"} {
		must(exec.Command("docker", "build", "-q", "-f", "../../deploy/compose/Dockerfile", "--target", target, "-t", n.name+"/anka-"+target+":test", dir))
	}
	must(exec.Command("docker", "build", "-q", "-t", n.name+"/kubeproxy:test", dir))
}

// install renders the chart and starts all its pods at once, as Parallel and
// Deployments do.
func (n *node) install(values map[string]any) {
	n.t.Helper()
	values["images"] = map[string]any{"controller": n.name + "/anka-controller", "registry": n.name + "/anka-registry", "tag": "test"}
	rendered, err := render(loadChart(n.t), values)
	if err != nil {
		n.t.Fatal(err)
	}
	objs, err := objects(rendered)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, obj := range objs {
		switch o := obj.(type) {
		case *corev1.Service:
			n.services = append(n.services, o)
		case *corev1.Pod:
			n.tests = append(n.tests, o)
		case *appsv1.Deployment:
			for i := range int(*o.Spec.Replicas) {
				n.add(&pod{name: fmt.Sprintf("%s-%c", o.Name, 'a'+i), template: o.Spec.Template})
			}
		case *appsv1.StatefulSet:
			for i := range int(*o.Spec.Replicas) {
				p := &pod{name: fmt.Sprintf("%s-%d", o.Name, i), template: o.Spec.Template, headless: o.Spec.ServiceName}
				for _, c := range o.Spec.VolumeClaimTemplates {
					p.claims = append(p.claims, c.Name)
				}
				n.add(p)
			}
		}
	}
	for _, s := range n.services {
		if s.Spec.ClusterIP != corev1.ClusterIPNone {
			n.startService(s)
		}
	}
	for _, p := range n.pods {
		p.start()
	}
	n.publish(everyPod)
	for _, p := range n.pods {
		p.waitReady()
	}
}

// helmTest runs the pods of `helm test` to their end.
func (n *node) helmTest() {
	n.t.Helper()
	for _, p := range n.tests {
		c := p.Spec.Containers[0]
		args := []string{"run", "--rm", "--network", n.name, "--read-only", "--entrypoint", c.Command[0]}
		for _, e := range c.Env {
			args = append(args, "-e", e.Name+"="+e.Value)
		}
		if out := n.docker(append(append(args, c.Image), c.Command[1:]...)...); !strings.HasPrefix(out, "ready") {
			n.t.Errorf("helm test %s: %s", p.Name, out)
		}
	}
}

func (n *node) add(p *pod) {
	p.node, p.spec = n, &p.template.Spec.Containers[0]
	n.pods = append(n.pods, p)
}

// of returns the pods of one component.
func (n *node) of(component string) []*pod {
	var out []*pod
	for _, p := range n.pods {
		if p.template.Labels["app.kubernetes.io/component"] == component {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		n.t.Fatalf("no pod of %s", component)
	}
	return out
}

func (n *node) dns(service string) string { return service + "." + n.namespace + ".svc" }

func (n *node) run(args ...string) string {
	n.t.Helper()
	return n.docker(append([]string{"run", "-d", "--label", "node=" + n.name, "--network", n.name}, args...)...)
}

func (n *node) endpointsDir(service string) string {
	dir := filepath.Join(os.TempDir(), n.name+"-"+service)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (n *node) startService(s *corev1.Service) {
	n.t.Helper()
	port := strconv.Itoa(int(s.Spec.Ports[0].Port))
	n.run("--name", n.name+"-"+s.Name, "--network-alias", n.dns(s.Name), "-p", "127.0.0.1::"+port, "-v", n.endpointsDir(s.Name)+":/endpoints:ro",
		n.name+"/kubeproxy:test", ":"+port, "/endpoints/list")
}

// serviceURL is the service as this machine reaches it.
func (n *node) serviceURL(name string) string {
	n.t.Helper()
	for _, s := range n.services {
		if s.Name == name {
			return "http://" + n.docker("port", n.name+"-"+name, strconv.Itoa(int(s.Spec.Ports[0].Port)))
		}
	}
	n.t.Fatalf("no service %s", name)
	return ""
}

// publish writes the list of ready pods of every service.
func (n *node) publish(ready func(*pod) bool) {
	n.t.Helper()
	for _, s := range n.services {
		if s.Spec.ClusterIP == corev1.ClusterIPNone {
			continue
		}
		var list []string
		for _, p := range n.pods {
			labels := maps.Clone(p.template.Labels)
			labels[appsv1.StatefulSetPodNameLabel] = p.name
			if p.container != "" && subset(s.Spec.Selector, labels) && ready(p) {
				list = append(list, net.JoinHostPort(p.name, strconv.Itoa(int(p.port(s.Spec.Ports[0].TargetPort)))))
			}
		}
		// Renamed into place: a reader sees the old list or the new one.
		file := filepath.Join(os.TempDir(), n.name+"-"+s.Name, "list")
		if err := errors.Join(os.WriteFile(file+".new", []byte(strings.Join(list, "\n")), 0o644), os.Rename(file+".new", file)); err != nil {
			n.t.Fatal(err)
		}
	}
}

func everyPod(*pod) bool { return true }

func (p *pod) port(target intstr.IntOrString) int32 {
	if target.Type == intstr.Int {
		return target.IntVal
	}
	for _, c := range p.spec.Ports {
		if c.Name == target.StrVal {
			return c.ContainerPort
		}
	}
	p.node.t.Fatalf("%s has no port %s", p.name, target.StrVal)
	return 0
}

// start runs the pod's container. What the manifest does not allow, the
// container has not got.
func (p *pod) start() {
	n := p.node
	n.t.Helper()
	sec, podSec := p.spec.SecurityContext, p.template.Spec.SecurityContext
	args := []string{"--name", n.name + "-" + p.name + "-" + strconv.FormatInt(time.Now().UnixNano(), 36), "--hostname", p.name, "--network-alias", p.name,
		"--user", fmt.Sprintf("%d:%d", *podSec.RunAsUser, *podSec.RunAsGroup)}
	if *sec.ReadOnlyRootFilesystem {
		args = append(args, "--read-only")
	}
	if !*sec.AllowPrivilegeEscalation {
		args = append(args, "--security-opt", "no-new-privileges")
	}
	for _, c := range sec.Capabilities.Drop {
		args = append(args, "--cap-drop", string(c))
	}
	if limit, ok := p.spec.Resources.Limits[corev1.ResourceMemory]; ok {
		args = append(args, "--memory", strconv.FormatInt(limit.Value(), 10))
	}
	if p.headless != "" {
		args = append(args, "--network-alias", p.name+"."+n.dns(p.headless))
	}
	for _, c := range p.spec.Ports {
		args = append(args, "-p", fmt.Sprintf("127.0.0.1::%d", c.ContainerPort))
	}
	env := make(map[string]string)
	for _, e := range p.spec.Env {
		value := e.Value
		if e.ValueFrom != nil {
			if e.ValueFrom.FieldRef == nil {
				n.t.Fatalf("%s: %s comes from %v", p.name, e.Name, e.ValueFrom)
			}
			switch e.ValueFrom.FieldRef.FieldPath {
			case "metadata.name":
				value = p.name
			case "metadata.labels['apps.kubernetes.io/pod-index']":
				value = p.name[strings.LastIndex(p.name, "-")+1:]
			default:
				n.t.Fatalf("%s: %s comes from %v", p.name, e.Name, e.ValueFrom)
			}
		}
		for name, earlier := range env { // the kubelet knows those that came before
			value = strings.ReplaceAll(value, "$("+name+")", earlier)
		}
		env[e.Name] = value
		args = append(args, "-e", e.Name+"="+value)
	}
	for _, m := range p.spec.VolumeMounts {
		args = append(args, p.mount(m)...)
	}
	args = append(args, "--entrypoint", p.spec.Command[0], p.spec.Image)
	p.container = n.run(append(append(args, p.spec.Command[1:]...), p.spec.Args...)...)
	p.ports = make(map[string]string)
	for _, c := range p.spec.Ports {
		p.ports[c.Name] = n.docker("port", p.container, strconv.Itoa(int(c.ContainerPort)))
	}
}

func (p *pod) mount(m corev1.VolumeMount) []string {
	n := p.node
	volume := ""
	if slices.Contains(p.claims, m.Name) {
		volume = n.name + "-" + p.name + "-" + m.Name // of this pod alone
	}
	for _, v := range p.template.Spec.Volumes {
		switch {
		case v.Name != m.Name:
		case v.EmptyDir != nil:
			return []string{"--tmpfs", fmt.Sprintf("%s:mode=0777", m.MountPath)}
		case v.PersistentVolumeClaim != nil:
			volume = n.name + "-" + v.PersistentVolumeClaim.ClaimName // of all that name it
		}
	}
	if volume == "" {
		n.t.Fatalf("%s: volume %s is of a kind that this test does not know", p.name, m.Name)
	}
	n.docker("volume", "create", "--label", "node="+n.name, volume) // one that is there stays
	return []string{"-v", volume + ":" + m.MountPath}
}

// ask asks a probe once, as the kubelet does.
func (p *pod) ask(probe *corev1.Probe) error {
	timeout := time.Duration(max(1, probe.TimeoutSeconds)) * time.Second
	switch {
	case probe.HTTPGet != nil:
		client := http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get("http://" + p.ports[p.portName(probe.HTTPGet.Port)] + probe.HTTPGet.Path)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode < 200 || resp.StatusCode >= 400 {
			return fmt.Errorf("%s: %s", probe.HTTPGet.Path, resp.Status)
		}
		return nil
	case probe.TCPSocket != nil:
		c, err := net.DialTimeout("tcp", p.ports[p.portName(probe.TCPSocket.Port)], timeout)
		if err != nil {
			return err
		}
		return c.Close()
	}
	return errors.New("a probe of a kind that this test does not know")
}

func (p *pod) portName(port intstr.IntOrString) string {
	for _, c := range p.spec.Ports {
		if c.Name == port.StrVal || c.ContainerPort == port.IntVal {
			return c.Name
		}
	}
	return ""
}

// waitReady asks the start-up probe as often as it may be asked, then that of
// readiness, and looks whether the pod would be left alive.
func (p *pod) waitReady() {
	t := p.node.t
	t.Helper()
	var err error
	limit := time.Duration(p.spec.StartupProbe.PeriodSeconds*p.spec.StartupProbe.FailureThreshold) * time.Second
	for _, step := range []struct {
		what  string
		probe *corev1.Probe
		limit time.Duration
	}{{"start-up", p.spec.StartupProbe, limit}, {"readiness", p.spec.ReadinessProbe, patience}, {"liveness", p.spec.LivenessProbe, 0}} {
		for end := time.Now().Add(step.limit); ; time.Sleep(100 * time.Millisecond) {
			if err = p.ask(step.probe); err == nil {
				break
			}
			if state := p.node.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", p.container); !strings.HasPrefix(state, "running") {
				t.Fatalf("%s: %s\n%s", p.name, state, p.log())
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %s probe: %v\n%s", p.name, step.what, err, p.log())
			}
		}
	}
}

func (p *pod) log() string {
	out, _ := exec.Command("docker", "logs", "--tail", "30", p.container).CombinedOutput()
	return string(out)
}

// propagation is how long other machines still send new connections to a pod
// that was told to end: Kubernetes does both at once, and waits for neither.
const propagation = 2 * time.Second

// terminate ends the pod as the kubelet does: SIGTERM at once (the chart has no
// preStop), SIGKILL after the grace period. Whatever needs that is a failure.
func (p *pod) terminate() {
	n := p.node
	n.t.Helper()
	if p.spec.Lifecycle != nil {
		n.t.Fatalf("%s has a life cycle hook, which this test does not play", p.name)
	}
	grace := time.Duration(*p.template.Spec.TerminationGracePeriodSeconds) * time.Second
	began := time.Now()
	n.docker("kill", "--signal", "TERM", p.container)
	var wg sync.WaitGroup
	wg.Go(func() {
		time.Sleep(propagation) // what is played is this very delay
		gone := p
		n.publish(func(p *pod) bool { return p != gone })
	})
	done := make(chan string, 1)
	go func() { done <- n.docker("wait", p.container) }()
	select {
	case code := <-done:
		if code != "0" {
			n.t.Errorf("%s ended with %s\n%s", p.name, code, p.log())
		}
		n.t.Logf("%s ended %s after SIGTERM, of %s", p.name, time.Since(began).Round(100*time.Millisecond), grace)
	case <-time.After(grace):
		n.t.Errorf("%s had to be killed after %s\n%s", p.name, grace, p.log())
		n.docker("kill", p.container)
		<-done
	}
	wg.Wait()
	n.docker("rm", "-v", p.container)
	p.container = ""
}
