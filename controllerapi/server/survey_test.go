package server

import (
	"slices"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/registryapi"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// fakeStore is a registry with a store's id and a template of each name, whose id
// is its name.
func fakeStore(t *testing.T, store string, names ...string) *fakeRegistry {
	f := startRegistry(t)
	f.set(func(f *fakeRegistry) {
		f.store, f.templates = store, nil
		for _, name := range names {
			f.templates = append(f.templates, registryapi.Template{ID: name, Name: name, LastPush: 1, Repository: store + "/" + name})
		}
	})
	return f
}

// surveyedCatalog is a catalog that knows these registries; push is those that are
// pushed to.
func surveyedCatalog(t *testing.T, log *zap.Logger, push []string, registries ...*fakeRegistry) *catalog {
	t.Helper()
	cfg := DefaultConfig()
	cfg.RegistryURL, cfg.PushRegistries = registries[0].URL, push
	c, err := newCatalog(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	var urls []string
	for _, f := range registries {
		urls = append(urls, f.URL)
	}
	c.regs.follow(urls)
	c.regs.survey(t.Context())
	c.judgeRegistries()
	return c
}

func names(list []registryapi.Template) string {
	var out []string
	for _, t := range list {
		out = append(out, t.Name)
	}
	return strings.Join(out, " ")
}

// A list is the same whichever of the registries is the controller's own.
func TestListDoesNotDependOnWhichRegistryIsAsked(t *testing.T) {
	t.Parallel()
	a, b := fakeStore(t, "store-a", "xcode", "base"), fakeStore(t, "store-b", "ventura", "base")
	b.set(func(f *fakeRegistry) { f.templates[1].LastPush, f.templates[1].Size = 2, 7 })
	shared := fakeStore(t, "store-a", "xcode", "base")
	replica := fakeStore(t, "store-r", "xcode") // it lags
	replica.set(func(f *fakeRegistry) { f.source = a.URL })
	old := fakeStore(t, "", "sonoma")
	for _, tt := range []struct {
		name  string
		regs  []*fakeRegistry
		push  []string
		want  string
		apart bool
	}{
		{"unrelated by mistake", []*fakeRegistry{a, b}, nil, "base ventura xcode", true},
		{"a shared directory", []*fakeRegistry{a, shared}, nil, "xcode base", false},
		{"a replica", []*fakeRegistry{a, replica}, nil, "base xcode", false},
		{"a replica, and where to push", []*fakeRegistry{a, replica}, []string{a.URL}, "base xcode", false},
		{"two that are pushed to, and a replica", []*fakeRegistry{a, b, replica}, []string{a.URL, b.URL}, "base ventura xcode", false},
		{"an island beside one that is pushed to", []*fakeRegistry{a, b, replica}, []string{a.URL}, "base ventura xcode", true},
		{"an older version", []*fakeRegistry{a, old}, nil, "base sonoma xcode", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for own := range tt.regs {
				regs := slices.Concat(tt.regs[own:], tt.regs[:own])
				c := surveyedCatalog(t, zap.NewNop(), tt.push, regs...)
				for range 3 {
					list, err := c.all(t.Context())
					if err != nil || names(list) != tt.want {
						t.Errorf("own registry %d: %q, %v; want %q", own, names(list), err, tt.want)
					}
					for _, tpl := range list {
						if tpl.ID == "base" && slices.Contains(tt.regs, b) && tpl.Size != 7 {
							t.Errorf("own registry %d: the template that both have is %+v, want the one pushed last", own, tpl)
						}
					}
				}
				if problems := strings.Join(c.problems(), "\n"); strings.Contains(problems, "do not copy from one another") != tt.apart {
					t.Errorf("own registry %d: problems %q, want apart %v", own, problems, tt.apart)
				}
				if tt.apart {
					if tpl, err := c.template(t.Context(), "base"); err != nil || tpl.Size != 7 {
						t.Errorf("own registry %d: template %+v, %v; want the one pushed last", own, tpl, err)
					}
				}
			}
		})
	}
}

// What a registry that does not answer has does not vanish from the list, and the
// log says so once.
func TestTemplatesOfALostRegistryStayListed(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.InfoLevel)
	a, b := fakeStore(t, "store-a", "xcode"), fakeStore(t, "store-b", "ventura")
	c := surveyedCatalog(t, zap.New(core), nil, a, b)
	if n := logs.FilterMessage("registries hold different templates").Len(); n != 1 {
		t.Errorf("islands are told %d times, want once", n)
	}
	if list, err := c.all(t.Context()); err != nil || names(list) != "ventura xcode" {
		t.Fatalf("%q, %v", names(list), err)
	}
	b.Close()
	for range 3 {
		c.regs.survey(t.Context())
		c.judgeRegistries()
		if list, err := c.all(t.Context()); err != nil || names(list) != "ventura xcode" {
			t.Errorf("one of two registries is lost: %q, %v; want both templates", names(list), err)
		}
	}
	if n := logs.FilterMessage("the registries of a store do not answer; its templates are listed as they were").Len(); n != 1 {
		t.Errorf("the loss is told %d times, want once", n)
	}
	if n := logs.FilterMessage("registries hold different templates").Len(); n != 1 {
		t.Errorf("islands are told %d times, want once", n)
	}
	if problems := strings.Join(c.problems(), "\n"); !strings.Contains(problems, b.URL+" does not answer") {
		t.Errorf("problems %q do not name the lost registry", problems)
	}
}

// A replica answers for a registry that is pushed to, while that does not.
func TestReplicaListsForItsSource(t *testing.T) {
	t.Parallel()
	a := fakeStore(t, "store-a", "base", "xcode")
	replica := fakeStore(t, "store-r", "base", "xcode")
	replica.set(func(f *fakeRegistry) { f.source = a.URL })
	c := surveyedCatalog(t, zap.NewNop(), []string{a.URL}, replica, a)
	a.Close()
	if list, err := c.all(t.Context()); err != nil || names(list) != "base xcode" {
		t.Errorf("%q, %v", names(list), err)
	}
}

func TestReadyzTellsOfIslands(t *testing.T) {
	t.Parallel()
	etcd := dialEtcd(t, startEtcd(t, nil))
	a, b := fakeStore(t, "store-a", "xcode"), fakeStore(t, "store-b", "ventura")
	first := startController(t, etcd, a.URL, nil)
	startController(t, etcd, b.URL, nil)
	eventually(t, "/readyz?verbose names both registries", func() bool {
		code, body := do(t, "GET", first.URL+"/readyz?verbose", "")
		return code == 200 && strings.HasPrefix(body, "ok\n[-] ") && strings.Contains(body, a.URL) && strings.Contains(body, b.URL)
	})
	if code, body := do(t, "GET", first.URL+"/readyz", ""); code != 200 || body != "ok\n" {
		t.Errorf("/readyz: %d %q, want it as ever", code, body)
	}
	if _, body := do(t, "GET", first.URL+"/api/v1/cluster", ""); !strings.Contains(body, `"problems":["registries of this cloud hold different templates`) {
		t.Errorf("/api/v1/cluster: %s", body)
	}
}
