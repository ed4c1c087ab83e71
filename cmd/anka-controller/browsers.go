package main

import (
	"fmt"
	"net/url"

	"github.com/ankacluster/ankacluster/internal/settings"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// browserSettings is what pages in browsers may do.
type browserSettings struct {
	all            bool
	origins, hosts []string
}

// of returns it for servers that are known by these URLs.
func (b browserSettings) of(urls ...string) wire.Browsers {
	out := wire.Browsers{Hosts: append(wire.HostsOf(urls...), b.hosts...), Origins: b.origins}
	if b.all {
		out.Origins = []string{"*"}
	}
	return out
}

// origins reads a list of sites.
func origins(p *[]string) func(string) error {
	return func(s string) error {
		var list []string
		if err := settings.List(&list)(s); err != nil {
			return err
		}
		for _, text := range list {
			u, err := url.Parse(text)
			if err != nil || u.Host == "" || text != u.Scheme+"://"+u.Host {
				return fmt.Errorf("must be sites such as https://ci.example.com, without a path")
			}
		}
		*p = list
		return nil
	}
}
