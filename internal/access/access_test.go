package access

import (
	"context"
	"errors"
	"net/http"
	"testing"
)

func TestEveryPermissionHasAKeyOfItsOwn(t *testing.T) {
	t.Parallel()
	type name struct {
		of  Component
		key string
	}
	seen := make(map[name]Permission)
	for p := range All() {
		n := name{p.Component(), p.String()}
		if n.key == "" || !p.Known() {
			t.Errorf("permission %d has no key", p)
		}
		if other, taken := seen[n]; taken {
			t.Errorf("permissions %d and %d are both %v", other, p, n)
		}
		seen[n] = p
	}
	if zero := Permission(0); zero.Known() || permissions.Known() {
		t.Error("a value that is no permission is known")
	}
}

// desk is an Authenticator and Authorizer that answers as it was told to.
type desk struct {
	caller          Principal
	unknown, denied error
	asked           []Permission
}

func (d *desk) Authenticate(*http.Request) (Principal, error) { return d.caller, d.unknown }

func (d *desk) Authorize(_ context.Context, p Principal, need Permission) error {
	if p.String() != d.caller.String() {
		return errors.New("asked for another caller")
	}
	d.asked = append(d.asked, need)
	return d.denied
}

func TestGuard(t *testing.T) {
	t.Parallel()
	ada := Principal{Kind: KindUser, Name: "ada"}
	away := errors.New("etcd does not answer")
	for name, c := range map[string]struct {
		desk   desk
		need   Permission
		caller Principal
		err    error
	}{
		"permitted":               {desk{caller: ada}, StartVM, ada, nil},
		"no credential":           {desk{unknown: ErrUnauthenticated}, StartVM, Principal{}, ErrUnauthenticated},
		"cannot be checked":       {desk{unknown: away}, StartVM, Principal{}, away},
		"denied":                  {desk{caller: ada, denied: away}, StartVM, Principal{}, away},
		"public, bad credential":  {desk{unknown: ErrUnauthenticated}, Public, Anonymous, nil},
		"public, nobody is asked": {desk{caller: ada, denied: away}, Public, Anonymous, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			if err != nil {
				t.Fatal(err)
			}
			in, err := Guard{&c.desk, &c.desk}.Admit(r, c.need)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			if got := From(in.Context()); got.String() != c.caller.String() || !Admitted(in.Context()) {
				t.Errorf("caller %v, want %v", got, c.caller)
			}
		})
	}
}

func TestOpenGuardAdmitsEverybodyAsAnonymous(t *testing.T) {
	t.Parallel()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range []Guard{{}, {Open{}, Open{}}} {
		in, err := g.Admit(r, DeleteNode)
		if err != nil || !From(in.Context()).IsAnonymous() || !Admitted(in.Context()) {
			t.Errorf("%+v: %v", g, err)
		}
	}
	if Admitted(r.Context()) || From(r.Context()).String() != "anonymous" {
		t.Error("a request that no guard saw is admitted")
	}
}
