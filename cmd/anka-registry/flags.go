package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/registryapi/server"
)

// Categories of settings in the help.
const (
	catServe   = "Serving"
	catStore   = "Storage"
	catLogs    = "Logs and metrics"
	catRefused = "Unsupported, and refused when set"
)

// envOf is the environment variable of a setting.
func envOf(name string) string {
	return "ANKA_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

func text(cat, name, def, usage string) cli.Flag {
	return &cli.StringFlag{Category: cat, Name: name, EnvVars: []string{envOf(name)}, Value: def, Usage: usage}
}

func yes(cat, name string, def bool, usage string) cli.Flag {
	return &cli.BoolFlag{Category: cat, Name: name, EnvVars: []string{envOf(name)}, Value: def, Usage: usage}
}

func length(cat, name string, def time.Duration, usage string) cli.Flag {
	return &cli.DurationFlag{Category: cat, Name: name, EnvVars: []string{envOf(name)}, Value: def, Usage: usage}
}

func number(cat, name string, def int, usage string) cli.Flag {
	return &cli.IntFlag{Category: cat, Name: name, EnvVars: []string{envOf(name)}, Value: def, Usage: usage}
}

// flags are the settings; every one has its environment variable.
func flags() []cli.Flag {
	def := server.DefaultConfig()
	return []cli.Flag{
		text(catServe, "listen-addr", "", "serve on `HOST:PORT`, usually :8089"),
		length(catServe, "graceful-shutdown-timeout", def.GracefulShutdownTimeout, "at a stop, requests in flight may take `DURATION` to end"),
		length(catServe, "drain-delay", def.DrainDelay, "for the first `DURATION` of that only /readyz says no; then connections are refused"),
		length(catServe, "upload-inactivity", def.UploadInactivity, "end an upload request that brings no data for `DURATION`"),
		length(catServe, "download-inactivity", def.DownloadInactivity, "end a download that takes no data for `DURATION`"),
		length(catServe, "vm-list-cache-ttl", def.ListCacheTTL, "look every `DURATION` for changes made without a server"),
		number(catServe, "vm-list-concurrency", def.ListConcurrency, "read `N` templates at a time for a list"),
		yes(catServe, "use-https", false, "serve HTTPS"),
		text(catServe, "server-cert", "", "certificate `FILE`, read again when it changes"),
		text(catServe, "server-key", "", "key `FILE`"),
		text(catServe, "min-tls-version", "", "`VERSION` tls_1.0 to tls_1.3 (default: tls_1.2)"),
		text(catServe, "max-tls-version", "", "`VERSION`"),
		text(catServe, "cipher-suites", "", "comma-separated `NAMES`"),

		text(catStore, "base-path", ".", "keep everything below `DIR`; several servers may share it"),
		text(catStore, "quota", "0", "refuse pushes beyond `SIZE` of content, e.g. 2TiB; 0 is no limit"),
		text(catStore, "min-free", "1GiB", "refuse pushes that leave less than `SIZE` free"),
		length(catStore, "gc-interval", def.GCInterval, "collect garbage every `DURATION`; 0 is never"),
		length(catStore, "gc-grace", def.GCGrace, "keep unreferenced content for `DURATION`"),
		length(catStore, "keep-untagged", def.KeepUntagged, "keep manifests without a tag for `DURATION`; 0 is for ever"),
		length(catStore, "upload-expiry", def.UploadExpiry, "remove uploads without data for `DURATION`; 0 is never"),
		text(catStore, "vm-dir-path", "vm_dir", "accepted, without effect"),
		text(catStore, "image-dir-path", "images_dir", "accepted, without effect"),
		text(catStore, "state-file-dir-path", "state_file_dir", "accepted, without effect"),

		text(catLogs, "files-dir", def.FilesDir, "keep uploaded files in `DIR` below the base path"),
		text(catLogs, "logs-dir", def.LogsDir, "keep central logs in `DIR` below the files"),
		number(catLogs, "keep-logs-for", 7, "keep central logs for `DAYS`; 0 is for ever"),
		&cli.Int64Flag{Category: catLogs, Name: "max-log-size", EnvVars: []string{"ANKA_MAX_LOG_SIZE"}, Value: 1024, Usage: "end a central log at `MB`"},
		yes(catLogs, "rotate-log-files-at-max-file-size", true, "keep a full log under a dated name"),
		yes(catLogs, "rotate-log-files-end-of-day", false, "end logs daily"),
		yes(catLogs, "enable-central-logging", false, "accepted; the log calls are always served"),
		yes(catLogs, "access-logs", false, "log every request"),
		yes(catLogs, "enable-metrics", false, "serve Prometheus metrics"),
		number(catLogs, "metrics-port", 2112, "serve metrics on `PORT`"),
		text(catLogs, "metrics-path", "/metrics", "serve metrics under `PATH`"),
		&cli.BoolFlag{Category: catLogs, Name: "verbose", Usage: "log details"},

		text(catRefused, "backend-type", "disk", "`TYPE` of storage: disk"),
		text(catRefused, "log-server-backend-type", "disk", "`TYPE` of log storage: disk"),
		yes(catRefused, "enable-auth", false, "authenticate clients"),
		yes(catRefused, "enable-api-keys", false, "authenticate by API keys"),
		yes(catRefused, "enable-authorization", false, "check permissions"),
		yes(catRefused, "enable-resource-management", false, "check permissions on templates"),
		yes(catRefused, "enable-ingress-nginx", false, "trust client certificates in headers"),
		&cli.BoolFlag{Name: "version", Aliases: []string{"v"}, Usage: "print version, commit, date and Go version", DisableDefaultText: true},
	}
}

// parseBytes reads a size: a number with KiB, MiB, GiB, TiB, KB, MB, GB, TB or
// nothing behind it.
func parseBytes(s string) (int64, error) {
	digits := strings.TrimRight(s, "kKmMgGtTiIbB ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size such as 500GiB", s)
	}
	units := map[string]int64{"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
	unit, ok := units[strings.ToLower(strings.TrimSpace(s[len(digits):]))]
	if !ok || n > (1<<62)/unit {
		return 0, fmt.Errorf("%q is not a size such as 500GiB", s)
	}
	return n * unit, nil
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
