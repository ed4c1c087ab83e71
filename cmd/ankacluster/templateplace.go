package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/clienttls"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// templatePlace is where templates are: a registry, or a controller and the
// registries it names.
type templatePlace struct {
	url   string
	trust *clienttls.Trust
	rest  *registryapi.Client
	push  []string // registries that take pushes
	pull  []string // registries that serve pulls
}

// askTimeout bounds one question about what a URL is.
const askTimeout = 10 * time.Second

// findPlace asks each URL what it is; the first that answers is used, and all
// that answer serve pulls.
func findPlace(c *cli.Context) (*templatePlace, error) {
	urls, err := placeURLs(c)
	if err != nil {
		return nil, err
	}
	trust, err := placeTrust(c)
	if err != nil {
		return nil, err
	}
	var p *templatePlace
	var errs []error
	for _, u := range urls {
		q, err := askPlace(c.Context, u, trust)
		if err != nil {
			plain, _ := explainError(err)
			errs = append(errs, fmt.Errorf("%s: %w", u, plain))
			continue
		}
		if p == nil {
			p = q
			continue
		}
		for _, r := range q.pull {
			if !slices.Contains(p.pull, r) {
				p.pull = append(p.pull, r)
			}
		}
	}
	if p == nil {
		return nil, hintf(errors.Join(errs...), "--url takes a controller, usually at port 8090, or a registry, usually at port 8089")
	}
	return p, nil
}

func placeURLs(c *cli.Context) ([]string, error) {
	var urls []string
	for u := range strings.SplitSeq(c.String("url"), ",") {
		if u = strings.TrimSpace(u); u == "" {
			continue
		}
		if err := state.CheckURL(u); err != nil {
			return nil, usagef("--url %q %w", u, err)
		}
		urls = append(urls, strings.TrimRight(u, "/"))
	}
	if len(urls) > 0 {
		return urls, nil
	}
	if cfg, ok, err := currentContext(); ok || err != nil {
		return cfg.Controllers, err
	}
	dir, err := joinedDir(c)
	if err != nil {
		return nil, err
	}
	joined, err := dir.Config()
	if errors.Is(err, state.ErrNotJoined) {
		return nil, hintf(usagef("--url is not set, and %w", err), "add --url http://CONTROLLER:PORT, or remember a cloud: ankacluster context add NAME --controllers http://CONTROLLER:PORT")
	}
	if err != nil {
		return nil, fmt.Errorf("--url is not set, and the settings of this node cannot be read: %w", err)
	}
	return joined.Controllers, nil
}

// placeTrust says whose certificates count: those of --cacert, or those of the context in
// use, or those that this node joined with.
func placeTrust(c *cli.Context) (*clienttls.Trust, error) {
	opts := clienttls.Options{CA: c.String("cacert"), SkipVerify: c.Bool("skip-tls-verification")}
	if cfg, ok, _ := currentContext(); ok && c.String("url") == "" {
		opts = clienttls.Options{CA: cmp.Or(opts.CA, cfg.CACert), SkipVerify: opts.SkipVerify || cfg.SkipTLSVerification}
	} else if dir, err := stateDir(c); err == nil && opts.CA == "" && !opts.SkipVerify {
		if joined, err := dir.Config(); err == nil { // without one, the system's authorities count
			opts = clienttls.Options{CA: joined.Credentials.CACert, SkipVerify: joined.Credentials.SkipTLS}
		}
	}
	trust, err := clienttls.New(opts)
	if err != nil {
		return nil, usagef("--cacert: %w", err)
	}
	return trust, nil
}

func askPlace(ctx context.Context, u string, trust *clienttls.Trust) (*templatePlace, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	hc := &http.Client{CheckRedirect: wire.NoRedirect, Transport: trust.Transport(http.DefaultTransport.(*http.Transport).Clone())}
	reg := registryapi.NewClient(u, hc)
	_, rerr := reg.Status(ctx)
	if rerr == nil {
		return &templatePlace{url: u, trust: trust, rest: reg, push: []string{u}, pull: []string{u}}, nil
	}
	if _, ok := registryapi.Answered(rerr); !ok {
		return nil, rerr // nothing answers: no need to ask again
	}
	ctl := controllerapi.NewClient(u, hc)
	st, err := ctl.Status(ctx)
	if err != nil {
		return nil, errors.New("answers, but is neither a registry nor a controller; is the port right?")
	}
	p := &templatePlace{url: u, trust: trust, rest: registryapi.NewClientOfController(u, hc)}
	if cl, err := ctl.Cluster(ctx); err == nil {
		p.push = cl.PushRegistries
		for _, r := range cl.Registries {
			if r.State == controllerapi.ServerReady {
				p.pull = append(p.pull, r.URL)
			}
		}
	}
	if len(p.pull) == 0 && st.RegistryAddress != "" {
		p.pull = []string{st.RegistryAddress}
	}
	if len(p.push) == 0 {
		p.push = p.pull
	}
	return p, nil
}

// pushClient returns a client for the first registry that takes pushes. What it
// reads on the way is no pull.
func (p *templatePlace) pushClient() (*transfer.Client, error) {
	if len(p.push) == 0 {
		return nil, hintf(fmt.Errorf("the controller %s names no registry", p.url), "pass the registry itself as --url")
	}
	return transfer.New(transfer.Config{Base: p.push[0], Trust: p.trust, Authorize: func(r *http.Request) { r.Header.Set(registryapi.HeaderNoPull, "push") }})
}

// pullClients returns a client for each registry that serves pulls.
func (p *templatePlace) pullClients() ([]*transfer.Client, error) {
	if len(p.pull) == 0 {
		return nil, hintf(fmt.Errorf("the controller %s names no registry", p.url), "pass the registry itself as --url")
	}
	var list []*transfer.Client
	for _, u := range p.pull {
		c, err := transfer.New(transfer.Config{Base: u, Trust: p.trust})
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// splitRef takes NAME:TAG apart. Tags may have colons, names have none.
func splitRef(ref string) (name, tag string) {
	name, tag, _ = strings.Cut(ref, ":")
	return name, tag
}

// find returns the template that ref names, with its versions, and the tag; the
// latest one when ref has none.
func (p *templatePlace) find(ctx context.Context, ref string) (registryapi.Template, string, error) {
	name, tag := splitRef(ref)
	found, err := p.named(ctx, name)
	if err == nil && found == nil {
		err = hintf(fmt.Errorf("there is no template %q at %s", name, p.url), "ankacluster template list shows what there is")
	}
	if err != nil {
		return registryapi.Template{}, "", err
	}
	t, err := p.rest.Template(ctx, found.ID)
	if err != nil {
		return t, "", fmt.Errorf("template %s: %w", name, err)
	}
	if t.Repository == "" { // a controller may leave it out
		t.Repository = found.Repository
	}
	if tag == "" && len(t.Versions) > 0 {
		tag = t.Versions[len(t.Versions)-1].Tag
	}
	return t, tag, nil
}

// named returns the template with that id, name or repository, without its
// versions, or nil. Of several with one name the caller must say which.
func (p *templatePlace) named(ctx context.Context, name string) (*registryapi.Template, error) {
	list, err := p.rest.Templates(ctx)
	if err != nil {
		return nil, fmt.Errorf("list templates of %s: %w", p.url, err)
	}
	var found []registryapi.Template
	var ids []string
	for _, t := range list {
		switch name {
		case t.ID, t.Repository:
			return &t, nil // these are unique
		case t.Name:
			found = append(found, t)
			ids = append(ids, t.ID+" ("+t.Repository+")")
		}
	}
	if len(found) > 1 {
		return nil, usagef("%q names %d templates: use one of the ids %s", name, len(found), strings.Join(ids, ", "))
	}
	if len(found) == 0 {
		return nil, nil
	}
	return &found[0], nil
}

func hasTag(t registryapi.Template, tag string) bool {
	return slices.ContainsFunc(t.Versions, func(v registryapi.Version) bool { return v.Tag == tag })
}

func noTag(t registryapi.Template, tag string) error {
	return hintf(fmt.Errorf("%s has no tag %q", t.Name, tag), "ankacluster template show %s lists its tags", t.Name)
}
