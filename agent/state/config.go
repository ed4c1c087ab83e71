package state

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud/capacity"
)

// Capacity modes of a node.
const (
	CapacityNumber   = capacity.ByNumber
	CapacityResource = capacity.ByResource
)

// Hypervisors that a node can run VMs with.
const (
	RuntimeAnka = "anka"
	RuntimeTart = "tart"
)

// Config is what join was given. It is kept on disk, so that the agent needs no
// flags when its service starts it. What belongs to the cloud (Seed) is sent
// when the node registers and from then on comes from the cloud.
type Config struct {
	Controllers []string `json:"controllers"` // URLs, at least one
	// Host is the address that CI systems reach VMs at; "" follows the address
	// that the node reaches the controllers from.
	Host string `json:"host,omitempty"`
	Seed Seed   `json:"seed"`

	Heartbeat time.Duration `json:"heartbeat"`
	// StartTimeout bounds one start command of the hypervisor.
	StartTimeout time.Duration `json:"cli_start_timeout"`
	// NumWorkers is how many starts are prepared at once. Scripts do not count.
	NumWorkers int `json:"num_workers"`
	// OptimizationThreshold is after how many failed starts the disk is cleaned.
	OptimizationThreshold int     `json:"optimization_threshold"`
	ReserveSpace          Reserve `json:"reserve_space"`

	DialTimeout         time.Duration `json:"dial_timeout"`
	RequestTimeout      time.Duration `json:"request_timeout"`
	TLSHandshakeTimeout time.Duration `json:"tls_handshake_timeout"`
	MaxIdlePerHost      int           `json:"max_idle_connections_per_host"`
	VerifyDigests       *bool         `json:"verify_digests,omitempty"` // nil: as the balancer does by default

	VMMonitor      bool          `json:"enable_vm_monitor"`
	VMStuckDelay   time.Duration `json:"vm_stuck_delay"`
	VMStuckTimeout time.Duration `json:"vm_stuck_timeout"`
	VMPrefix       string        `json:"vm_prefix"`

	IgnoreArmVMLimit  bool `json:"ignore_arm_vm_limit,omitempty"`
	ForceOverrides    bool `json:"force_overrides_in_resource_mode,omitempty"`
	NoCentralLogging  bool `json:"no_central_logging,omitempty"`
	SkipPullSizeCheck bool `json:"skip_pull_size_check,omitempty"` // --skip-pull-error no-download-bytes
	DumpNetworkMeter  bool `json:"dump_network_meter"`
	HTTPSamples       int  `json:"num_http_sample_threshold"`
	Verbosity         int  `json:"verbosity,omitempty"`

	Credentials Credentials `json:"credentials"`
	// Runtime is the hypervisor of the node; join decides, and does not change it
	// while the node has VMs.
	Runtime  string `json:"runtime"`
	AnkaPath string `json:"anka_path"`
	TartPath string `json:"tart_path"`
	// TartHome is where tart keeps VMs and images; "" leaves it to tart.
	TartHome string `json:"tart_home,omitempty"`
	// TartUser is whom tart and its VMs run as; "" is the agent's own user.
	TartUser string `json:"tart_user,omitempty"`

	MetricsAddr string `json:"metrics_addr"` // loopback; port 0 takes any

	// AllowUpgrades lets the cloud replace the agent's program by one that is
	// signed; UpgradeKeys are minisign public keys that are trusted besides those
	// that were compiled in.
	AllowUpgrades bool     `json:"allow_upgrades,omitempty"`
	UpgradeKeys   []string `json:"upgrade_keys,omitempty"`
}

// Seed is join's share in the settings that the cloud owns. A nil field was not
// given.
type Seed = controllerapi.SeedSettings

// Credentials of the node towards controllers and registries. Secrets print as
// "redacted" and are stored in a file that only the owner reads.
type Credentials struct {
	APIKeyID   string `json:"api_key_id,omitempty"`
	APIKey     Secret `json:"api_key,omitempty"` // base64 PKCS#1 DER
	APIKeyFile string `json:"api_key_file,omitempty"`

	CACert           string `json:"ca_cert,omitempty"` // paths of PEM files
	Cert             string `json:"cert,omitempty"`
	CertKey          string `json:"cert_key,omitempty"`
	Keystore         string `json:"keystore,omitempty"` // path of a PKCS#12 file
	KeystorePassword Secret `json:"keystore_password,omitempty"`

	TLS     bool `json:"tls,omitempty"`
	SkipTLS bool `json:"skip_tls_verification,omitempty"`
}

// Secret is a string that does not show itself.
type Secret string

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "redacted"
}

// GoString keeps %#v from showing it.
func (s Secret) GoString() string { return s.String() }

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	return Config{
		Heartbeat:             5 * time.Second,
		StartTimeout:          90 * time.Second,
		NumWorkers:            2,
		OptimizationThreshold: 5,
		ReserveSpace:          Reserve{Percent: 20},
		DialTimeout:           15 * time.Second,
		RequestTimeout:        time.Minute,
		TLSHandshakeTimeout:   5 * time.Second,
		MaxIdlePerHost:        50,
		VMStuckDelay:          30 * time.Second,
		VMStuckTimeout:        10 * time.Second,
		VMPrefix:              DefaultVMPrefix,
		DumpNetworkMeter:      true,
		HTTPSamples:           1000,
		Runtime:               RuntimeAnka,
		AnkaPath:              "anka",
		TartPath:              "tart",
		MetricsAddr:           "127.0.0.1:0",
	}
}

// DefaultVMPrefix stands before the name of every VM that the cloud manages.
const DefaultVMPrefix = "mgmtManaged"

// Validate reports everything that is wrong, by the name of the flag.
func (c *Config) Validate() error {
	errs := []error{c.ValidateSettings()}
	if len(c.Controllers) == 0 {
		errs = append(errs, ErrNoController)
	}
	for _, u := range c.Controllers {
		if err := CheckURL(u); err != nil {
			errs = append(errs, fmt.Errorf("controller %q %w", u, err))
		}
	}
	return errors.Join(errs...)
}

// ErrNoController: a node joins something.
var ErrNoController = errors.New("no controller given: pass at least one URL, e.g. http://10.0.1.4:8090")

// ValidateSettings reports what is wrong with everything but the controllers.
func (c *Config) ValidateSettings() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	atLeast := func(flag string, v, low time.Duration) {
		if v < low {
			bad("--%s %s must be at least %s", flag, v, low)
		}
	}
	atLeast("heartbeat", c.Heartbeat, time.Second)
	if c.Heartbeat > time.Minute {
		// The cloud calls a node Offline after 2 minutes without a report.
		bad("--heartbeat %s must be at most 1m", c.Heartbeat)
	}
	atLeast("cli-start-timeout", c.StartTimeout, time.Second)
	atLeast("dial-timeout", c.DialTimeout, 100*time.Millisecond)
	atLeast("request-timeout", c.RequestTimeout, time.Second)
	atLeast("tls-handshake-timeout", c.TLSHandshakeTimeout, 100*time.Millisecond)
	atLeast("vm-stuck-delay", c.VMStuckDelay, time.Second)
	atLeast("vm-stuck-timeout", c.VMStuckTimeout, time.Second)
	inRange := func(flag string, v, low, high int) {
		if v < low || v > high {
			bad("--%s %d must be from %d to %d", flag, v, low, high)
		}
	}
	inRange("num-workers", c.NumWorkers, 1, 100)
	inRange("optimization-threshold", c.OptimizationThreshold, 1, 1000)
	inRange("max-idle-connections-per-host", c.MaxIdlePerHost, 1, 10000)
	inRange("num-http-sample-threshold", c.HTTPSamples, 1, 1_000_000)
	inRange("verbosity", c.Verbosity, 0, 10)
	if v := c.Seed.MaxVMCount; v != nil {
		inRange("max-vm-count", *v, 0, 1000)
	}
	if v := c.Seed.VCPUOverride; v != nil {
		inRange("vcpu-override", *v, 0, 4096)
	}
	if v := c.Seed.RAMOverride; v != nil {
		inRange("ram-override", *v, 0, 1<<24)
	}
	if m := c.Seed.CapacityMode; m != nil && *m != CapacityNumber && *m != CapacityResource {
		bad("--capacity-mode %q must be %s or %s", *m, CapacityNumber, CapacityResource)
	}
	if n := c.Seed.Name; n != nil && strings.TrimSpace(*n) == "" {
		bad("--name must not be empty")
	}
	for _, g := range c.Seed.Groups {
		if strings.TrimSpace(g) == "" {
			bad("--groups has an empty name in it")
		}
	}
	if c.VMPrefix == "" || strings.ContainsFunc(c.VMPrefix, unicode.IsSpace) {
		bad("--vm-prefix %q must not have spaces in it", c.VMPrefix)
	}
	if c.Runtime != RuntimeAnka && c.Runtime != RuntimeTart {
		bad("--runtime %q must be %s or %s", c.Runtime, RuntimeAnka, RuntimeTart)
	}
	if strings.ContainsAny(c.Host, "/ ") {
		bad("--host %q must be an address or a name, without scheme or path", c.Host)
	}
	if host, _, err := net.SplitHostPort(c.MetricsAddr); err != nil || host != "localhost" && !net.ParseIP(host).IsLoopback() {
		bad("--metrics-addr %q must be a loopback address with a port, e.g. 127.0.0.1:9464", c.MetricsAddr)
	}
	if err := c.ReserveSpace.validate(); err != nil {
		bad("--reserve-space: %w", err)
	}
	if err := c.Credentials.validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Valid reports whether the credentials fit together.
func (c *Credentials) Valid() bool { return c.validate() == nil }

func (c *Credentials) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if hasKey := c.APIKey != "" || c.APIKeyFile != ""; hasKey != (c.APIKeyID != "") {
		bad("--api-key-id needs --api-key-file or --api-key-string, and either needs --api-key-id")
	}
	if (c.Cert == "") != (c.CertKey == "") {
		bad("--cert and --cert-key belong together")
	}
	if c.Cert != "" && c.Keystore != "" {
		bad("--cert and --keystore are two ways to give one certificate: use one of them")
	}
	if c.KeystorePassword != "" && c.Keystore == "" {
		bad("--keystore-pass needs --keystore")
	}
	return errors.Join(errs...)
}

var nodeID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ValidNodeID accepts what can be a node's id: it is a part of paths, of the
// cloud's keys and of the registries' logs.
func ValidNodeID(id string) bool { return nodeID.MatchString(id) }

// CheckURL accepts what can be a controller's address: http or https, a host,
// and no path, query or user.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case !strings.Contains(s, "://"):
		return fmt.Errorf("must begin with http:// or https://, e.g. http://%s", bracketed(s))
	case err != nil:
		return errors.New("is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("must begin with http:// or https://, e.g. http://%s", strings.TrimPrefix(strings.TrimPrefix(s, u.Scheme+":"), "//"))
	case u.Hostname() == "":
		return errors.New("has no host")
	case u.User != nil:
		return errors.New("must not hold a user or password: use --api-key-id or --cert")
	case u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return errors.New("must be scheme, host and port only")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("port %s must be from 1 to 65535", p)
		}
	}
	return nil
}

// bracketed puts an IPv6 address between brackets, as URLs have it.
func bracketed(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
		return "[" + host + "]:8090"
	}
	return strings.TrimPrefix(host, "//")
}

// Reserve is how much of the disk stays free: a share of it, or bytes.
type Reserve struct {
	Percent float64 `json:"percent,omitempty"`
	Bytes   uint64  `json:"bytes,omitempty"`
}

// ParseReserve reads "20%", "50G", "500M", "1T".
func ParseReserve(s string) (Reserve, error) {
	s = strings.TrimSpace(s)
	if p, ok := strings.CutSuffix(s, "%"); ok {
		f, err := strconv.ParseFloat(p, 64)
		if err != nil {
			return Reserve{}, fmt.Errorf("%q is not a percentage", s)
		}
		r := Reserve{Percent: f}
		return r, r.validate()
	}
	units := map[byte]float64{'T': 1 << 40, 'G': 1 << 30, 'M': 1 << 20}
	if s == "" {
		return Reserve{}, errors.New("is empty: pass 20% or 50G")
	}
	unit, ok := units[strings.ToUpper(s)[len(s)-1]]
	if !ok {
		return Reserve{}, fmt.Errorf("%q needs a unit: %s%% or %sG?", s, s, s)
	}
	f, err := strconv.ParseFloat(s[:len(s)-1], 64)
	if err != nil || f < 0 || f > 1e6 {
		return Reserve{}, fmt.Errorf("%q is not a size", s)
	}
	return Reserve{Bytes: uint64(f * unit)}, nil
}

func (r Reserve) validate() error {
	if !(r.Percent >= 0 && r.Percent <= 95) {
		return fmt.Errorf("%g%% must be from 0%% to 95%%", r.Percent)
	}
	return nil
}

// Of returns the bytes to keep free on a disk of a size.
func (r Reserve) Of(size uint64) uint64 {
	if r.Bytes > 0 {
		return min(r.Bytes, size)
	}
	return uint64(float64(size) * r.Percent / 100)
}
