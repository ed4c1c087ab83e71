package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/ankacluster/ankacluster/internal/ownaddr"
	"github.com/ankacluster/ankacluster/internal/settings"
)

// validate reports every setting that is wrong, one line each, by the name under
// which it was given.
func (c *config) validate() error {
	var errs []error
	bad := func(env, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", c.name(env), fmt.Sprintf(format, args...)))
	}
	if info, err := os.Stat(c.AgentPackages); c.isGiven("ANKA_AGENT_PACKAGES") && (err != nil || !info.IsDir()) {
		bad("ANKA_AGENT_PACKAGES", "%s is no directory", c.AgentPackages)
	}
	file := func(env, path string, needed bool, why string) {
		if path == "" {
			if needed {
				bad(env, "is missing; %s", why)
			}
			return
		}
		f, err := os.Open(path)
		if err != nil {
			bad(env, "%v", err)
			return
		}
		f.Close()
	}

	if c.Standalone {
		if c.isGiven("ANKA_ETCD_ENDPOINTS") {
			bad("ANKA_ETCD_ENDPOINTS", "contradicts %s, which runs its own etcd; use one of them", c.name("ANKA_STANDALONE"))
		}
		if _, err := c.memberConfig(); err != nil {
			errs = append(errs, err)
		}
	} else {
		for _, env := range []string{"ANKA_CLUSTER", "ANKA_CLUSTER_SELF", "ANKA_ETCD_LISTEN_CLIENT", "ANKA_ETCD_LISTEN_PEER"} {
			if c.isGiven(env) {
				bad(env, "needs --standalone")
			}
		}
		c.validateEtcd(bad, file)
	}

	if c.AnkaRegistry == "" && !c.AllowEmptyRegistry {
		bad("ANKA_ANKA_REGISTRY", "is missing; name the registry that nodes use, run the built-in one with --run-registry, or start without any with --allow-empty-registry")
	}
	for _, env := range []string{"ANKA_REGISTRY_COPIES", "ANKA_REGISTRY_COPIES_STRICT"} {
		if c.isGiven(env) && !c.clustered() {
			bad(env, "is for the built-in registries of --standalone --cluster; this registry is one directory")
		}
	}
	for env, u := range map[string]string{"ANKA_ANKA_REGISTRY": c.AnkaRegistry, "ANKA_LOCAL_ANKA_REGISTRY": c.LocalRegistry} {
		if u != "" && ownaddr.Reaches(u, c.ListenAddr) {
			bad(env, "%s is this controller itself (%s %s); name the registry", u, c.name("ANKA_LISTEN_ADDR"), c.ListenAddr)
		}
	}
	if c.HTTPS || c.ServerCert != "" || c.ServerKey != "" {
		file("ANKA_SERVER_CERT", c.ServerCert, true, "HTTPS needs a certificate and a key")
		file("ANKA_SERVER_KEY", c.ServerKey, true, "HTTPS needs a certificate and a key")
		if !c.HTTPS {
			bad("ANKA_SERVER_CERT", "has no effect without --use-https")
		}
	}
	if c.QueueAddr != "" && c.QueueTLS {
		file("ANKA_QUEUE_SERVER_CERT", c.QueueCert, true, "--use-queue-tls needs a certificate and a key")
		file("ANKA_QUEUE_SERVER_KEY", c.QueueKey, true, "--use-queue-tls needs a certificate and a key")
	}
	if c.QueueAuth {
		file("ANKA_QUEUE_CA_CERT", c.QueueCA, true, "--enable-queue-auth needs the authority of the nodes' certificates")
	}
	if _, err := c.registryTrust(); err != nil {
		bad("ANKA_REGISTRY_CA_CERT", "%v", err)
	} else if c.HTTPS && c.RunRegistry && c.Cluster != "" && c.ServerCert != "" {
		c.validateOwnCertificate(bad)
	}
	file("ANKA_QUEUE_CRL", c.QueueCRL, false, "")
	file("ANKA_CA_CERT", c.CACert, false, "")
	file("ANKA_CRL", c.CRL, false, "")
	if c.MinTLS != "" && c.MaxTLS != "" && c.MinTLS > c.MaxTLS {
		bad("ANKA_MIN_TLS_VERSION", "%s is above ANKA_MAX_TLS_VERSION %s", c.MinTLS, c.MaxTLS)
	}
	c.validateProtection(bad)
	if c.QueueAuth && !c.QueueTLS {
		bad("ANKA_ENABLE_QUEUE_AUTH", "needs --use-queue-tls: nodes show certificates in TLS only")
	}
	if c.ManageMAC && c.MACRange == "" {
		bad("ANKA_MAC_ADDR_RANGE", "is missing; --manage-mac-addresses needs FIRST-LAST")
	}
	if c.EventLogURL != "" && !c.EventLogging {
		bad("ANKA_EVENT_LOG_URL", "has no effect without --enable-event-logging")
	}
	return errors.Join(errs...)
}

// validateProtection refuses what promises protection that there is not. A lock
// that does not lock is worse than none: who sets one of these must not get an open
// controller.
func (c *config) validateProtection(bad func(env, format string, args ...any)) {
	for _, s := range c.table() {
		protects := s.Group == groupAuth || s.Env == "ANKA_QUEUE_CRL"
		if on := c.given[s.Env].Value; protects && c.isGiven(s.Env) && !(s.IsBool && isFalse(on)) {
			bad(s.Env, "is not supported by this version: the controller would be open to everybody who reaches it; leave it out, and let the network decide who does")
		}
	}
}

func isFalse(value string) bool {
	var on bool
	return settings.Bool(&on)(value) == nil && !on
}

func (c *config) validateEtcd(bad func(env, format string, args ...any), file func(env, path string, needed bool, why string)) {
	for _, ep := range c.EtcdEndpoints {
		host := ep
		if u, err := url.Parse(ep); err == nil && strings.Contains(ep, "://") {
			host = u.Host
			switch {
			case u.Scheme != "http" && u.Scheme != "https":
				bad("ANKA_ETCD_ENDPOINTS", "%q is not HOST:PORT, http://HOST:PORT or https://HOST:PORT", ep)
				continue
			case (u.Scheme == "https") != c.EtcdTLS:
				bad("ANKA_ETCD_ENDPOINTS", "%q does not fit --use-etcd-tls=%t", ep, c.EtcdTLS)
				continue
			}
		}
		if h, port, err := net.SplitHostPort(host); err != nil || h == "" || port == "" {
			bad("ANKA_ETCD_ENDPOINTS", "%q is not HOST:PORT, http://HOST:PORT or https://HOST:PORT", ep)
		}
	}
	if len(c.QueueEtcdEndpoints) > 0 && !slices.Equal(slices.Sorted(slices.Values(c.QueueEtcdEndpoints)), slices.Sorted(slices.Values(c.EtcdEndpoints))) {
		bad("ANKA_QUEUE_ETCD_ENDPOINTS", "must be left out or be the same as ANKA_ETCD_ENDPOINTS: one etcd cluster holds everything")
	}
	file("ANKA_ETCD_CA_CERT", c.EtcdCA, false, "")
	file("ANKA_ETCD_CERT", c.EtcdCert, c.EtcdKey != "", "ANKA_ETCD_CERT_KEY is its key")
	file("ANKA_ETCD_CERT_KEY", c.EtcdKey, c.EtcdCert != "", "ANKA_ETCD_CERT needs its key")
	if !c.EtcdTLS {
		for _, env := range []string{"ANKA_ETCD_CA_CERT", "ANKA_ETCD_CERT", "ANKA_ETCD_CERT_KEY"} {
			if c.isGiven(env) {
				bad(env, "has no effect without --use-etcd-tls")
			}
		}
	} else if _, err := c.etcdTLSConfig(); err != nil {
		bad("ANKA_ETCD_CERT", "%v", err)
	}
	if c.EtcdLogin && c.EtcdUser == "" {
		bad("ANKA_ETCD_USERNAME", "is missing; --use-etcd-login needs it")
	}
	if c.EtcdLogin && c.EtcdPassword == "" {
		bad("ANKA_ETCD_PASSWORD", "is missing; --use-etcd-login needs it")
	}
}
