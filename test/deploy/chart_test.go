// Package deploy tests what stands under deploy/ with the tools that will read
// it: Helm's own renderer, the Kubernetes API types, Prometheus's rule parser.
// It is a module of its own, because those libraries are large and the product
// needs none of them.
package deploy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

const chartDir = "../../deploy/helm/ankacluster"

// dimensions are the values that change what is rendered, each with every
// choice worth telling apart. The test renders all combinations.
var dimensions = []struct {
	name    string
	choices []map[string]any
}{
	{"etcd", []map[string]any{
		{},
		{"etcd": map[string]any{"replicas": 1}},
		{"etcd": map[string]any{"enabled": false, "external": map[string]any{"endpoints": []any{"https://e0:2379", "https://e1:2379"}, "tlsSecret": "etcd-tls"}}},
	}},
	{"registry", []map[string]any{
		{},
		{"registry": map[string]any{"replicas": 2}},
		{"registry": map[string]any{"mode": "replicated", "replicas": 2}},
		{"registry": map[string]any{"storage": map[string]any{"existingClaim": "templates", "className": "nfs"}}},
		{"registry": map[string]any{"enabled": false, "external": map[string]any{"url": "http://registry.example:8089", "pushURL": "http://push.example:8089"}}},
	}},
	{"ingress", []map[string]any{
		{},
		{"ingress": map[string]any{"enabled": true, "controllerHost": "anka.example.com"}},
		{"ingress": map[string]any{"enabled": true, "controllerHost": "anka.example.com", "registryHost": "registry.example.com", "tlsSecret": "tls"}},
	}},
	{"affinity", []map[string]any{
		{},
		{"controller": map[string]any{"antiAffinity": "hard", "replicas": 2, "exposure": "hostPort"}},
		{"controller": map[string]any{"antiAffinity": "none", "podDisruptionBudget": false,
			"exposure": "perPod", "perPod": map[string]any{"url": "http://10.0.1.4:3009{index}", "type": "NodePort", "nodePort": 30090}, "env": []any{map[string]any{"name": "ANKA_INSTANCE_TIME_OUT", "value": "5m"}}}},
	}},
	{"extras", []map[string]any{
		{"metrics": map[string]any{"podMonitor": map[string]any{"enabled": true, "labels": map[string]any{"release": "prometheus"}}, "prometheusRule": map[string]any{"enabled": true}}},
		{"metrics": map[string]any{"enabled": false}, "networkPolicy": map[string]any{"enabled": false}},
		{"imagePullSecrets": []any{map[string]any{"name": "pull"}}, "registryURL": "https://registry.example.com", "controllerURL": "https://anka.example.com",
			"controller": map[string]any{"nodeSelector": map[string]any{"disk": "ssd"}, "tolerations": []any{map[string]any{"key": "ci", "operator": "Exists"}}}},
	}},
}

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	log.SetOutput(io.Discard) // Helm's word on the link to the alerts
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatalf("load chart: %v", err)
	}
	return c
}

// render renders the chart as `helm install cloud --namespace ci` would.
func render(c *chart.Chart, values map[string]any) (map[string]string, error) {
	release := chartutil.ReleaseOptions{Name: "cloud", Namespace: "ci", IsInstall: true}
	all, err := chartutil.ToRenderValues(c, values, release, nil)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, all)
}

// kinds are Kubernetes' own and those of the Prometheus operator.
var kinds = func() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(s), monitoringv1.AddToScheme(s)); err != nil {
		panic(err)
	}
	return s
}()

// objects decodes every rendered document strictly: an unknown or misplaced
// field, which the API server would refuse or drop, is an error.
func objects(rendered map[string]string) ([]runtime.Object, error) {
	decoder := serializer.NewCodecFactory(kinds, serializer.EnableStrict).UniversalDeserializer()
	var objs []runtime.Object
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		docs := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(rendered[name])))
		for {
			doc, err := docs.Read()
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if len(bytes.TrimSpace(doc)) == 0 {
				continue
			}
			obj, _, err := decoder.Decode(doc, nil, nil)
			if err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", name, err, doc)
			}
			objs = append(objs, obj)
		}
	}
	return objs, nil
}

// combinations calls f with every combination of the dimensions' choices.
func combinations(f func(values map[string]any)) {
	var descend func(i int, values map[string]any)
	descend = func(i int, values map[string]any) {
		if i == len(dimensions) {
			f(values)
			return
		}
		for _, choice := range dimensions[i].choices {
			// CoalesceTables writes into its first argument and keeps what is there.
			descend(i+1, chartutil.CoalesceTables(deepCopy(choice), deepCopy(values)))
		}
	}
	descend(0, map[string]any{})
}

func deepCopy(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if sub, ok := v.(map[string]any); ok {
			v = deepCopy(sub)
		}
		out[k] = v
	}
	return out
}

func TestEveryCombinationOfValuesIsValidKubernetes(t *testing.T) {
	c := loadChart(t)
	count := 0
	combinations(func(values map[string]any) {
		count++
		rendered, err := render(c, values)
		if err != nil {
			t.Fatalf("render %v: %v", values, err)
		}
		objs, err := objects(rendered)
		if err != nil {
			t.Fatalf("decode %v: %v", values, err)
		}
		for _, problem := range inconsistencies(objs) {
			t.Errorf("%v: %s", values, problem)
		}
	})
	t.Logf("%d combinations rendered and decoded", count)
}

// inconsistencies finds what types alone do not: selectors that match no pod of
// their own, ports without a name, volumes without a source, soft pods.
func inconsistencies(objs []runtime.Object) []string {
	var problems []string
	pods := make(map[string]corev1.PodTemplateSpec)
	claims := make(map[string][]string)
	for _, obj := range objs {
		switch o := obj.(type) {
		case *appsv1.Deployment:
			pods["Deployment "+o.Name] = o.Spec.Template
			if !subset(o.Spec.Selector.MatchLabels, o.Spec.Template.Labels) {
				problems = append(problems, o.Name+": selector does not match its pods")
			}
		case *corev1.Pod:
			if o.Annotations["helm.sh/hook"] != "test" {
				problems = append(problems, o.Name+": a pod that nothing starts again")
			}
		case *appsv1.StatefulSet:
			pods["StatefulSet "+o.Name] = o.Spec.Template
			for _, c := range o.Spec.VolumeClaimTemplates {
				claims["StatefulSet "+o.Name] = append(claims["StatefulSet "+o.Name], c.Name)
			}
			if !subset(o.Spec.Selector.MatchLabels, o.Spec.Template.Labels) {
				problems = append(problems, o.Name+": selector does not match its pods")
			}
		}
	}
	for name, pod := range pods {
		problems = append(problems, podProblems(name, pod, claims[name])...)
	}
	for _, obj := range objs {
		if s, ok := obj.(*corev1.Service); ok {
			problems = append(problems, serviceProblems(s, pods)...)
		}
	}
	return problems
}

func podProblems(name string, pod corev1.PodTemplateSpec, claims []string) []string {
	var problems []string
	volumes := slices.Clone(claims)
	for _, v := range pod.Spec.Volumes {
		volumes = append(volumes, v.Name)
	}
	if s := pod.Spec.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot {
		problems = append(problems, name+": may run as root")
	}
	for _, c := range pod.Spec.Containers {
		if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			problems = append(problems, name+": root file system is writable")
		}
		for _, m := range c.VolumeMounts {
			if !slices.Contains(volumes, m.Name) {
				problems = append(problems, fmt.Sprintf("%s: mounts volume %q, which does not exist", name, m.Name))
			}
		}
		if c.ReadinessProbe == nil || c.LivenessProbe == nil {
			problems = append(problems, name+": probes are missing")
		}
		seen := make(map[string]bool)
		for _, e := range c.Env {
			if seen[e.Name] {
				problems = append(problems, name+": sets "+e.Name+" twice")
			}
			seen[e.Name] = true
		}
	}
	return problems
}

func serviceProblems(s *corev1.Service, pods map[string]corev1.PodTemplateSpec) []string {
	for name, pod := range pods {
		// What a StatefulSet's pods have besides the template's labels.
		own, kind := maps.Clone(pod.Labels), strings.TrimPrefix(name, "StatefulSet ")
		if one := s.Spec.Selector[appsv1.StatefulSetPodNameLabel]; kind != name && strings.HasPrefix(one, kind+"-") {
			own[appsv1.StatefulSetPodNameLabel] = one
		}
		if !subset(s.Spec.Selector, own) {
			continue
		}
		for _, port := range s.Spec.Ports {
			if !slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.String() }) {
				return []string{fmt.Sprintf("service %s: its pods have no port %q", s.Name, port.TargetPort.String())}
			}
		}
		return nil
	}
	return []string{fmt.Sprintf("service %s: no pod matches its selector", s.Name)}
}

func subset(want, have map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func TestWrongValuesAreRefusedWithTheirName(t *testing.T) {
	c := loadChart(t)
	for _, tt := range []struct {
		values map[string]any
		want   string
	}{
		{map[string]any{"etcd": map[string]any{"enabled": false}}, "etcd.external.endpoints"},
		{map[string]any{"etcd": map[string]any{"replicas": 2}}, "etcd/replicas"},
		{map[string]any{"registry": map[string]any{"enabled": false}}, "registry.external.url"},
		{map[string]any{"registry": map[string]any{"mode": "mirrored"}}, "registry/mode"},
		{map[string]any{"controller": map[string]any{"antiAffinity": "maybe"}}, "antiAffinity"},
		{map[string]any{"controller": map[string]any{"replicas": "abc"}}, "controller/replicas"},
		{map[string]any{"controler": map[string]any{"replicas": 5}}, "controler"},
		{map[string]any{"controllerURL": "foo"}, "controllerURL"},
		{map[string]any{"controller": map[string]any{"exposure": "perPod"}}, "controller.perPod.url"},
		{map[string]any{"controller": map[string]any{"exposure": "perPod", "perPod": map[string]any{"url": "http://one.example.com"}}}, "perPod/url"},
		{map[string]any{"metrics": map[string]any{"enabled": false, "podMonitor": map[string]any{"enabled": true}}}, "metrics.podMonitor.enabled"},
		{map[string]any{"ingress": map[string]any{"enabled": true}}, "ingress.controllerHost"},
	} {
		if _, err := render(c, tt.values); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("render %v: error %v, want one that names %s", tt.values, err, tt.want)
		}
	}
}

// TestChartIsLinted is `helm lint --strict`.
func TestChartIsLinted(t *testing.T) {
	for _, m := range lint.All(chartDir, nil, "ci", true).Messages {
		if m.Severity >= support.WarningSev {
			t.Errorf("%s: %v", m.Path, m.Err)
		}
	}
}

// TestChartIsOfTheRelease: its images have the release's tag.
func TestChartIsOfTheRelease(t *testing.T) {
	version, err := os.ReadFile("../../VERSION")
	if err != nil {
		t.Fatal(err)
	}
	m := loadChart(t).Metadata
	if want := strings.TrimPrefix(strings.TrimSpace(string(version)), "v"); m.AppVersion != want || m.Version != want {
		t.Errorf("appVersion %q and version %q, want %q of VERSION", m.AppVersion, m.Version, want)
	}
}

// TestNodesAreToldAddressesThatTheyReach is about what controllers announce.
func TestNodesAreToldAddressesThatTheyReach(t *testing.T) {
	c := loadChart(t)
	ingress := map[string]any{"enabled": true, "controllerHost": "c.example.com", "registryHost": "r.example.com", "tlsSecret": "tls"}
	for _, tt := range []struct {
		name                 string
		values               map[string]any
		controller, registry string
		join                 string // a line of the notes
	}{
		{"ingress", map[string]any{"ingress": ingress}, "https://c.example.com", "https://r.example.com", "ankacluster join https://c.example.com\n"},
		{"registryURL wins", map[string]any{"ingress": ingress, "registryURL": "https://other.example.com"}, "https://c.example.com", "https://other.example.com", "join https://c.example.com\n"},
		{"host port", map[string]any{"controller": map[string]any{"exposure": "hostPort", "hostPort": 9090}},
			"http://$(HOST_IP):9090", "http://cloud-ankacluster-registry.ci.svc:8089", "http://{.status.hostIP}:9090,"},
		{"a service for each", map[string]any{"controller": map[string]any{"exposure": "perPod", "replicas": 2, "perPod": map[string]any{"url": "http://c{index}.example.com"}}},
			"http://c$(POD_INDEX).example.com", "http://cloud-ankacluster-registry.ci.svc:8089", "join http://c0.example.com,http://c1.example.com\n"},
	} {
		rendered, err := render(c, tt.values)
		if err != nil {
			t.Fatal(err)
		}
		objs, err := objects(rendered)
		if err != nil {
			t.Fatal(err)
		}
		env := make(map[string]string)
		for _, obj := range objs {
			var spec *corev1.PodSpec
			switch o := obj.(type) {
			case *appsv1.Deployment:
				spec = &o.Spec.Template.Spec
			case *appsv1.StatefulSet:
				spec = &o.Spec.Template.Spec
			}
			if spec != nil && spec.Containers[0].Name == "controller" {
				for _, e := range spec.Containers[0].Env {
					env[e.Name] = e.Value
				}
			}
		}
		if env["ANKA_ADVERTISE_URL"] != tt.controller || env["ANKA_ANKA_REGISTRY"] != tt.registry {
			t.Errorf("%s: announces %s and %s, want %s and %s", tt.name, env["ANKA_ADVERTISE_URL"], env["ANKA_ANKA_REGISTRY"], tt.controller, tt.registry)
		}
		if notes := rendered["ankacluster/templates/NOTES.txt"]; !strings.Contains(notes, tt.join) {
			t.Errorf("%s: the notes have no %q:\n%s", tt.name, tt.join, notes)
		}
	}
}

// TestNoLineEndsInBlanks keeps what people read with helm template clean.
func TestNoLineEndsInBlanks(t *testing.T) {
	c := loadChart(t)
	for name, text := range mustRender(t, c, nil) {
		for i, line := range strings.Split(text, "\n") {
			if strings.TrimRight(line, " \t") != line {
				t.Errorf("%s:%d: %q", name, i+1, line)
			}
		}
	}
}

func mustRender(t *testing.T, c *chart.Chart, values map[string]any) map[string]string {
	t.Helper()
	rendered, err := render(c, values)
	if err != nil {
		t.Fatal(err)
	}
	return rendered
}
