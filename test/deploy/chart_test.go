// Package deploy tests what stands under deploy/ with the tools that will read
// it: Helm's own renderer, the Kubernetes API types, Prometheus's rule parser.
// It is a module of its own, because those libraries are large and the product
// needs none of them.
package deploy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
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
		{"controller": map[string]any{"antiAffinity": "hard", "replicas": 2}},
		{"controller": map[string]any{"antiAffinity": "none", "podDisruptionBudget": false, "env": []any{map[string]any{"name": "ANKA_INSTANCE_TIME_OUT", "value": "5m"}}}},
	}},
	{"extras", []map[string]any{
		{},
		{"metrics": map[string]any{"enabled": false}, "networkPolicy": map[string]any{"enabled": false}},
		{"imagePullSecrets": []any{map[string]any{"name": "pull"}}, "registryURL": "https://registry.example.com", "controllerURL": "https://anka.example.com",
			"controller": map[string]any{"nodeSelector": map[string]any{"disk": "ssd"}, "tolerations": []any{map[string]any{"key": "ci", "operator": "Exists"}}}},
	}},
}

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
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

// objects decodes every rendered document strictly: an unknown or misplaced
// field, which the API server would refuse or drop, is an error.
func objects(rendered map[string]string) ([]runtime.Object, error) {
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
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
	for _, pod := range pods {
		if !subset(s.Spec.Selector, pod.Labels) {
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
		{map[string]any{"etcd": map[string]any{"replicas": 2}}, "etcd.replicas"},
		{map[string]any{"registry": map[string]any{"enabled": false}}, "registry.external.url"},
		{map[string]any{"registry": map[string]any{"mode": "mirrored"}}, "registry.mode"},
		{map[string]any{"controller": map[string]any{"antiAffinity": "maybe"}}, "antiAffinity"},
		{map[string]any{"ingress": map[string]any{"enabled": true}}, "ingress.controllerHost"},
	} {
		if _, err := render(c, tt.values); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("render %v: error %v, want one that names %s", tt.values, err, tt.want)
		}
	}
}
