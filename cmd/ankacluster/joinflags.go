package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent/node"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/agent/upgrade"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// Categories of join's flags, in the order of its help.
const (
	catUsual  = "What most want"
	catNode   = "This node; with those above, seeds: from the first join on, the cloud's settings rule"
	catVM     = "Starting VMs"
	catSecure = "Credentials and TLS"
	catTune   = "Timing and connections"
	catLocal  = "This process"
)

func joinFlags() []cli.Flag {
	d := state.DefaultConfig()
	str := func(cat, name, usage string, aliases ...string) cli.Flag {
		return &cli.StringFlag{Category: cat, Name: name, Aliases: aliases, Usage: usage}
	}
	// Numbers and durations are read as text, so that all that is wrong with them
	// is told at once and by the flag's name.
	val := func(cat, name, def, usage string, aliases ...string) cli.Flag {
		return &cli.StringFlag{Category: cat, Name: name, Aliases: aliases, DefaultText: def, Usage: usage}
	}
	yes := func(cat, name, usage string, aliases ...string) cli.Flag {
		return &cli.BoolFlag{Category: cat, Name: name, Aliases: aliases, Usage: usage, DisableDefaultText: true}
	}
	verify := verifyDigestsFlag()
	verify.Category = catTune
	flags := []cli.Flag{
		&cli.StringSliceFlag{Name: "controllers", Usage: "controllers to join, as `URL,URL,…`; the same as arguments"},
		str(catUsual, "name", "`NAME` of the node in the cloud (default: the host's name)", "n"),
		str(catNode, "node-id", "`ID` of the node (default: made at the first join, then kept)"),
		str(catUsual, "host", "`ADDRESS` at which CI systems reach this node's VMs (default: the one that reaches the controllers)", "H"),
		str(catUsual, "groups", "put the node into these groups: `NAME,NAME,…`", "G"),
		val(catNode, "capacity-mode", state.CapacityNumber, "how much runs at once: `MODE` number (of VMs) or resource (CPU and RAM)", "M"),
		val(catUsual, "max-vm-count", "2", "VMs at once in mode number: `N`", "m"),
		val(catNode, "vcpu-override", "performance cores x 2", "virtual CPUs in mode resource: `N`", "V"),
		val(catNode, "ram-override", "all but 2 GB", "RAM for VMs in mode resource, `MB`", "R"),
		yes(catNode, "force-overrides-in-resource-mode", "let overrides exceed what the host has; without it they are cut to that"),
		yes(catNode, "ignore-arm-vm-limit", "allow more than 2 VMs on Apple silicon"),
		yes(catUsual, "drain-mode", "join without taking VMs"),
		yes(catNode, "no-central-logging", "send no logs to the registry"),

		val(catVM, "cli-start-timeout", "1m30s", "end a start of a VM after `DURATION` and try again"),
		val(catVM, "num-workers", strconv.Itoa(d.NumWorkers), "VMs that are prepared at once: `N`"),
		val(catVM, "optimization-threshold", strconv.Itoa(d.OptimizationThreshold), "clean the disk after `N` failed starts"),
		val(catUsual, "reserve-space", "20%", "keep so much of the disk free: `20%|50G`"),
		val(catVM, "vm-prefix", d.VMPrefix, "`PREFIX` of the names of the cloud's VMs"),
		yes(catVM, "enable-vm-monitor", "end VMs whose guest does not answer"),
		val(catVM, "vm-stuck-delay", "30s", "look at each VM every `DURATION`"),
		val(catVM, "vm-stuck-timeout", "10s", "a guest is stuck after `DURATION` without an answer"),
		str(catVM, "skip-pull-error", "`KIND` no-download-bytes: pull also when the size cannot be told"),
		val(catUsual, "runtime", "what is installed, anka first", "run VMs with the hypervisor `anka|tart`"),
		val(catVM, "tart-user", "who is logged in at the screen", "run tart and its VMs as the user `NAME`"),
		&cli.StringFlag{Category: catVM, Name: "tart-path", EnvVars: []string{tartPathEnv}, Value: d.TartPath, Usage: "the `tart` command", Hidden: true},
		&cli.StringFlag{Category: catVM, Name: "anka-path", EnvVars: []string{ankaPathEnv}, Value: d.AnkaPath, Usage: "the `anka` command", Hidden: true},

		str(catSecure, "api-key-id", "`ID` of the API key"),
		str(catSecure, "api-key-string", "the API key itself, base64; visible in the process list, so prefer a file: `KEY`"),
		str(catSecure, "api-key-file", "`FILE` with the API key (wins over --api-key-string)"),
		&cli.StringFlag{Category: catUsual, Name: "cacert", Aliases: []string{"c", "root-cert", "r"}, Usage: "trust the certificate authority in this PEM `FILE`"},
		str(catSecure, "cert", "client certificate, PEM `FILE`", "C"),
		str(catSecure, "cert-key", "its key, PEM `FILE`", "K"),
		str(catSecure, "keystore", "client certificate and key, PKCS#12 `FILE`", "k"),
		str(catSecure, "keystore-pass", "its `PASSWORD`", "p"),
		yes(catSecure, "tls", "insist on https", "t"),
		yes(catSecure, "skip-tls-verification", "do not check the servers' certificates (tests only)"),
		yes(catUsual, "allow-upgrades", "let the cloud upgrade this agent, to programs that a trusted key has signed"),
		&cli.StringSliceFlag{Category: catSecure, Name: "upgrade-key", Usage: "trust this minisign public key for upgrades, and allow them: `KEY|FILE`; more than once for more"},

		val(catTune, "heartbeat", "5s", "tell the cloud every `DURATION` that the node is there"),
		val(catTune, "dial-timeout", "15s; in a pool of servers 1s, then the next", "to connect to a server, at most `DURATION`"),
		val(catTune, "request-timeout", "1m", "for a request, at most `DURATION`; a heartbeat is repeated after 20s"),
		val(catTune, "tls-handshake-timeout", "5s", "for a TLS handshake, at most `DURATION`"),
		val(catTune, "max-idle-connections-per-host", strconv.Itoa(d.MaxIdlePerHost), "keep `N` connections open to each server"),
		verify,
		&cli.BoolFlag{Category: catTune, Name: "dump-network-meter", Value: true, Usage: "log each server's requests, failures and latency; =false switches it off"},
		val(catTune, "num-http-sample-threshold", strconv.Itoa(d.HTTPSamples), "log them after every `N` requests"),

		yes(catLocal, "foreground", "run the agent in this terminal instead of in the background"),
		yes(catLocal, "no-service", "run the agent as an ordinary process, which does not come back after a reboot"),
		yes(catLocal, "skip-tests", "do not test the controllers and registries first"),
		val(catLocal, "verbosity", "0", "how much is logged, `0-10`"),
		val(catLocal, "metrics-addr", "127.0.0.1, any port", "serve Prometheus metrics at this loopback `ADDRESS:PORT`"),
	}
	for _, f := range placeFlags() {
		switch f := f.(type) {
		case *cli.StringFlag:
			f.Category = catLocal
		case *cli.BoolFlag:
			f.Category = catLocal
		}
		flags = append(flags, f)
	}
	return flags
}

// joinConfig reads the arguments and flags, and reports all that is wrong with
// them at once.
func joinConfig(c *cli.Context) (state.Config, error) {
	cfg := state.DefaultConfig()
	var errs []error
	duration := func(name string, to *time.Duration) {
		if err := durationFlag(c, name, to); err != nil {
			errs = append(errs, err)
		}
	}
	number := func(name string, to *int) bool {
		if !c.IsSet(name) {
			return false
		}
		n, err := strconv.Atoi(c.String(name))
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s %q is not a whole number", name, c.String(name)))
			return false
		}
		*to = n
		return true
	}
	seedNumber := func(name string, to **int) {
		var n int
		if number(name, &n) {
			*to = &n
		}
	}
	seedYes := func(name string, to **bool) {
		if c.IsSet(name) {
			v := c.Bool(name)
			*to = &v
		}
	}

	var err error
	if cfg.Controllers, err = controllerURLs(append(c.StringSlice("controllers"), c.Args().Slice()...)); err != nil {
		errs = append(errs, err)
	}
	if c.IsSet("name") {
		name := c.String("name")
		cfg.Seed.Name = &name
	}
	if id := c.String("node-id"); c.IsSet("node-id") && !state.ValidNodeID(id) {
		errs = append(errs, fmt.Errorf("--node-id %q must be letters, digits, '.', '_' and '-', at most 64 of them", id))
	}
	if c.IsSet("capacity-mode") {
		mode := c.String("capacity-mode")
		cfg.Seed.CapacityMode = &mode
	}
	seedNumber("max-vm-count", &cfg.Seed.MaxVMCount)
	seedNumber("vcpu-override", &cfg.Seed.VCPUOverride)
	seedNumber("ram-override", &cfg.Seed.RAMOverride)
	seedYes("drain-mode", &cfg.Seed.DrainMode)
	seedYes("ignore-arm-vm-limit", &cfg.Seed.IgnoreARMVMLimit)
	seedYes("no-central-logging", &cfg.Seed.DisableCentralLogging)
	if c.IsSet("groups") {
		for g := range strings.SplitSeq(c.String("groups"), ",") {
			cfg.Seed.Groups = append(cfg.Seed.Groups, strings.TrimSpace(g))
		}
	}
	seedYes("verify-digests", &cfg.VerifyDigests)
	cfg.Host = c.String("host")
	cfg.IgnoreArmVMLimit, cfg.ForceOverrides = c.Bool("ignore-arm-vm-limit"), c.Bool("force-overrides-in-resource-mode")
	cfg.NoCentralLogging, cfg.VMMonitor = c.Bool("no-central-logging"), c.Bool("enable-vm-monitor")
	cfg.DumpNetworkMeter = c.Bool("dump-network-meter")

	duration("heartbeat", &cfg.Heartbeat)
	duration("cli-start-timeout", &cfg.StartTimeout)
	duration("vm-stuck-delay", &cfg.VMStuckDelay)
	duration("vm-stuck-timeout", &cfg.VMStuckTimeout)
	duration("dial-timeout", &cfg.DialTimeout)
	duration("request-timeout", &cfg.RequestTimeout)
	duration("tls-handshake-timeout", &cfg.TLSHandshakeTimeout)
	number("num-workers", &cfg.NumWorkers)
	number("optimization-threshold", &cfg.OptimizationThreshold)
	number("max-idle-connections-per-host", &cfg.MaxIdlePerHost)
	number("num-http-sample-threshold", &cfg.HTTPSamples)
	number("verbosity", &cfg.Verbosity)
	if c.IsSet("reserve-space") {
		if cfg.ReserveSpace, err = state.ParseReserve(c.String("reserve-space")); err != nil {
			errs = append(errs, fmt.Errorf("--reserve-space: %w", err))
			cfg.ReserveSpace = state.Reserve{}
		}
	}
	if p := c.String("vm-prefix"); p != "" { // documented: empty is the default
		cfg.VMPrefix = p
	}
	switch skip := c.String("skip-pull-error"); skip {
	case "", "no-download-bytes":
		cfg.SkipPullSizeCheck = skip != ""
	default:
		errs = append(errs, fmt.Errorf("--skip-pull-error %q must be no-download-bytes", skip))
	}
	if c.IsSet("metrics-addr") {
		cfg.MetricsAddr = c.String("metrics-addr")
	}
	cfg.AnkaPath = cmp.Or(c.String("anka-path"), cfg.AnkaPath)
	cfg.TartPath = cmp.Or(c.String("tart-path"), cfg.TartPath)
	cfg.TartUser = c.String("tart-user")
	cfg.Runtime = cmp.Or(c.String("runtime"), cfg.Runtime)
	errs = append(errs, readCredentials(c, &cfg))
	errs = append(errs, readUpgradeKeys(c, &cfg))
	errs = append(errs, cfg.ValidateSettings())
	return cfg, errors.Join(errs...)
}

// readCredentials reads the flags about them, with the paths made absolute: the
// agent runs elsewhere.
func readCredentials(c *cli.Context, cfg *state.Config) error {
	var errs []error
	file := func(name string) string {
		path := c.String(name)
		if path == "" {
			return ""
		}
		abs, err := filepath.Abs(path)
		if err == nil {
			_, err = os.Stat(abs)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", name, err))
		}
		return abs
	}
	cfg.Credentials = state.Credentials{
		APIKeyID: c.String("api-key-id"), APIKey: state.Secret(c.String("api-key-string")), APIKeyFile: file("api-key-file"),
		CACert: file("cacert"), Cert: file("cert"), CertKey: file("cert-key"),
		Keystore: file("keystore"), KeystorePassword: state.Secret(c.String("keystore-pass")),
		TLS: c.Bool("tls"), SkipTLS: c.Bool("skip-tls-verification"),
	}
	if len(errs) == 0 && cfg.Credentials.Valid() {
		errs = append(errs, node.CheckCredentials(cfg.Credentials))
	}
	if cfg.Credentials.TLS {
		for _, u := range cfg.Controllers {
			if strings.HasPrefix(u, "http://") {
				errs = append(errs, fmt.Errorf("--tls: controller %s is not https", u))
			}
		}
	}
	return errors.Join(errs...)
}

// readUpgradeKeys reads whether the cloud may upgrade this agent, and whose programs
// it may bring.
func readUpgradeKeys(c *cli.Context, cfg *state.Config) error {
	var errs []error
	for _, given := range c.StringSlice("upgrade-key") {
		text := given
		if data, err := os.ReadFile(given); err == nil {
			text = string(data)
		}
		key, err := upgrade.ParseKey(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--upgrade-key %.60q: %w, and no file with one", given, err))
			continue
		}
		cfg.UpgradeKeys = append(cfg.UpgradeKeys, key.String())
	}
	cfg.AllowUpgrades = c.Bool("allow-upgrades") || len(cfg.UpgradeKeys) > 0
	if trusted, err := upgrade.Keys(cfg.UpgradeKeys); err != nil || cfg.AllowUpgrades && len(trusted) == 0 && len(errs) == 0 {
		errs = append(errs, err, errors.New("--allow-upgrades: this program has no release key compiled in; name yours with --upgrade-key"))
	}
	return errors.Join(errs...)
}

// controllerURLs splits lists at commas, checks each URL and drops repeats.
func controllerURLs(lists []string) ([]string, error) {
	var urls []string
	var errs []error
	seen := make(map[string]bool)
	for _, list := range lists {
		for raw := range strings.SplitSeq(list, ",") {
			if raw = strings.TrimSpace(raw); raw == "" {
				continue
			}
			if err := state.CheckURL(raw); err != nil {
				errs = append(errs, fmt.Errorf("controller %q %w", withoutUser(raw), err))
				continue
			}
			u, err := balancer.ParseEndpoint(raw)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if !seen[u.String()] {
				seen[u.String()] = true
				urls = append(urls, u.String())
			}
		}
	}
	if len(urls) == 0 && len(errs) == 0 {
		errs = append(errs, state.ErrNoController)
	}
	return urls, errors.Join(errs...)
}

// withoutUser hides what may be a password.
func withoutUser(raw string) string {
	begin, end := strings.Index(raw, "//")+2, strings.LastIndex(raw, "@")
	if begin < 2 || end < begin {
		return raw
	}
	return raw[:begin] + "…" + raw[end:]
}

// seedsGiven reports whether any flag asks for a setting that the cloud owns.
func seedsGiven(s controllerapi.SeedSettings) bool {
	return s.Name != nil || s.MaxVMCount != nil || s.CapacityMode != nil || s.VCPUOverride != nil || s.RAMOverride != nil ||
		s.DrainMode != nil || s.IgnoreARMVMLimit != nil || s.DisableCentralLogging != nil || len(s.Groups) > 0
}
