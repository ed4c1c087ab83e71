package etcdmember

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"
)

// Default ports, as etcd has them registered.
const (
	DefaultClientPort = 2379
	DefaultPeerPort   = 2380
)

// Config is what a member needs to know.
type Config struct {
	// DataDir holds the member's log and database. It is made when missing.
	DataDir string

	// ClientListen and PeerListen are IP:port addresses. Empty means: loopback
	// with the default port for a member alone, the own host's address for one
	// of a cluster. Port 0 is legal for a member alone.
	ClientListen, PeerListen string

	// Cluster lists every host of the cluster, the same everywhere. Empty means
	// a member alone.
	Cluster []Host
	// Self names the entry of Cluster that is this host, as written there. Empty
	// means: the one entry that resolves to an address of this machine.
	Self string

	// TLS protects both the peer and the client address, with certificates asked
	// of both sides. The zero value is plain HTTP.
	TLS TLS

	// QuotaBytes is the size at which the database refuses writes. etcd's own
	// default of 2 GB is small for a busy cloud and 8 GB its advised largest.
	QuotaBytes int64
	// CompactionMode is periodic or revision; CompactionRetention is how much
	// history is kept. Every heartbeat-sized write leaves history behind, so some
	// compaction is always on.
	CompactionMode, CompactionRetention string
	// DefragInterval is how often the member's database file is rewritten without
	// its holes; zero means never. The member stalls meanwhile.
	DefragInterval time.Duration
}

// TLS names PEM files. All three are set, or none.
type TLS struct{ CA, Cert, Key string }

// Enabled reports whether the addresses speak TLS.
func (t TLS) Enabled() bool { return t != TLS{} }

// DefaultConfig returns a member alone; DataDir remains to be set.
func DefaultConfig() Config {
	return Config{
		QuotaBytes:          4 << 30,
		CompactionMode:      "periodic",
		CompactionRetention: "30m",
	}
}

// Validate reports everything that is wrong, each line naming the flag.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.DataDir == "" {
		bad("--data-dir is empty")
	}
	for flag, addr := range map[string]string{"--etcd-listen-client": c.ClientListen, "--etcd-listen-peer": c.PeerListen} {
		if addr == "" {
			continue
		}
		if ap, err := netip.ParseAddrPort(addr); err != nil {
			bad("%s %q is not an IP address and a port, e.g. 127.0.0.1:2379", flag, addr)
		} else if ap.Port() == 0 && len(c.Cluster) > 0 {
			bad("%s %q: a member of a cluster needs a fixed port", flag, addr)
		}
	}
	seen := make(map[Host]bool)
	for _, h := range c.Cluster {
		if seen[h] {
			bad("--cluster names %s twice", h)
		}
		seen[h] = true
	}
	if c.Self != "" {
		if len(c.Cluster) == 0 {
			bad("--cluster-self %q needs --cluster", c.Self)
		} else if h, err := ParseHost(c.Self); err != nil {
			bad("--cluster-self: %w", err)
		} else if !seen[h] {
			bad("--cluster-self %s is not one of --cluster %s", h, joinHosts(c.Cluster))
		}
	}
	errs = append(errs, c.TLS.validate()...)
	if c.QuotaBytes < 16<<20 || c.QuotaBytes > 64<<30 {
		bad("--etcd-quota-mb %d is not between 16 and 65536", c.QuotaBytes>>20)
	}
	switch c.CompactionMode {
	case "periodic":
		if d, err := time.ParseDuration(c.CompactionRetention); err != nil || d <= 0 {
			bad("ANKA_AUTO_COMPACTION_RETENTION %q is not a positive duration such as 30m (mode periodic)", c.CompactionRetention)
		}
	case "revision":
		if n, err := strconv.ParseInt(c.CompactionRetention, 10, 64); err != nil || n <= 0 {
			bad("ANKA_AUTO_COMPACTION_RETENTION %q is not a positive number of revisions (mode revision)", c.CompactionRetention)
		}
	default:
		bad("ANKA_AUTO_COMPACTION_MODE %q is neither periodic nor revision", c.CompactionMode)
	}
	if c.DefragInterval < 0 {
		bad("ANKA_DEFRAG_DB_INTERVAL %s is negative", c.DefragInterval)
	}
	return errors.Join(errs...)
}

func (t TLS) validate() []error {
	if !t.Enabled() {
		return nil
	}
	var errs []error
	for flag, file := range map[string]string{"--etcd-tls-ca": t.CA, "--etcd-tls-cert": t.Cert, "--etcd-tls-key": t.Key} {
		if file == "" {
			errs = append(errs, fmt.Errorf("%s is missing: the three --etcd-tls-… files are set together", flag))
		} else if f, err := os.Open(file); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", flag, err))
		} else {
			f.Close()
		}
	}
	return errs
}

// withAddresses fills the listen addresses that were left empty.
func (c Config) withAddresses(self Host) Config {
	host := "127.0.0.1"
	peerPort := DefaultPeerPort
	if len(c.Cluster) > 0 {
		peerPort = self.PeerPort
		host = "0.0.0.0" // a name may resolve to any of our addresses
		if ip, err := netip.ParseAddr(self.Name); err == nil {
			host = ip.String()
		}
	}
	if c.ClientListen == "" {
		c.ClientListen = net.JoinHostPort(host, strconv.Itoa(DefaultClientPort))
	}
	if c.PeerListen == "" {
		c.PeerListen = net.JoinHostPort(host, strconv.Itoa(peerPort))
	}
	return c
}
