package server

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"regexp"
	"slices"
	"strconv"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/wire"
)

const (
	defaultPriority      = 1000
	maxPriority          = 10000
	defaultScriptTimeout = 90
	maxScriptTimeout     = 24 * 3600
)

var (
	diskSizes = regexp.MustCompile(`^[1-9][0-9]*[TGMK]$`)
	macs      = regexp.MustCompile(`^([0-9A-F]{2}:){5}[0-9A-F]{2}$`)
)

// checkStart checks a start request and fills in defaults. It returns how many
// instances are asked for.
func checkStart(req *api.StartRequest) (count int, err error) {
	if req.VMID == "" {
		return 0, required("vmid")
	}
	count = 1
	if req.Count != nil {
		count = *req.Count
	}
	if count < 1 || count > cloud.MaxCount {
		return 0, wire.Failf("count %d: it must be from 1 to %d", count, cloud.MaxCount)
	}
	if req.Priority == nil {
		req.Priority = new(defaultPriority)
	}
	if req.ScriptTimeout == 0 {
		req.ScriptTimeout = defaultScriptTimeout
	}
	for _, n := range []struct {
		name          string
		got, min, max int
	}{
		{"priority", *req.Priority, 1, maxPriority},
		{"startup_script_condition", req.StartupScriptCondition, 0, 1},
		{"script_timeout", req.ScriptTimeout, 1, maxScriptTimeout},
		{"script_fail_handler", req.ScriptFailHandler, 0, 2},
		{"vcpu", req.VCPU, 0, 1024},
		{"vram", req.VRAM, 0, 64 << 20},
	} {
		if n.got < n.min || n.got > n.max {
			return 0, wire.Failf("%s %d: it must be from %d to %d", n.name, n.got, n.min, n.max)
		}
	}
	if req.Version != nil && *req.Version < 0 {
		return 0, wire.Failf("version %d: it must not be negative", *req.Version)
	}
	if err := checkWords(req); err != nil {
		return 0, err
	}
	if err := req.CheckValues(); err != nil {
		return 0, wire.Fail(err.Error())
	}
	if err := checkMetadata(req.Metadata); err != nil {
		return 0, err
	}
	return count, checkPorts(req.PortForwardingOverride)
}

// checkWords checks the fields that take one of a few words, or a fixed form.
func checkWords(req *api.StartRequest) error {
	for _, w := range []struct {
		name, got string
		words     []string
	}{
		{"network_mode", req.NetworkMode, []string{"shared", "host", "bridge", "disconnected"}},
		{"network_local", req.NetworkLocal, []string{"forceOn", "forceOff"}},
		{"video_controller", req.VideoController, []string{"fbuf", "pg"}},
		{"hvapic", req.HVAPIC, []string{"forceOn", "forceOff"}},
		{"csr_active_config", req.CSRActiveConfig, []string{"forceOn"}},
	} {
		if w.got != "" && !slices.Contains(w.words, w.got) {
			return wire.Failf("%s %q: it must be one of %v", w.name, w.got, w.words)
		}
	}
	if req.MACAddress != "" && !macs.MatchString(req.MACAddress) {
		return wire.Failf("mac_address %q: it must be upper case with colons, such as 02:AB:00:00:00:01", req.MACAddress)
	}
	if req.Disk != nil && !diskSizes.MatchString(req.Disk.Size) {
		return wire.Failf("disk.size %q: it must be a number with T, G, M or K", req.Disk.Size)
	}
	if _, err := base64.StdEncoding.DecodeString(req.StartupScript); err != nil {
		return wire.Failf("startup_script is not base64: %v", err)
	}
	return nil
}

func checkMetadata(m api.Metadata) error {
	for key, val := range m {
		switch v := val.(type) {
		case string, bool:
		case json.Number:
			if _, err := v.Int64(); err != nil {
				return wire.Failf("metadata %q: a number must be an integer of 64 bits, written without point and exponent", key)
			}
		default:
			return wire.Failf("metadata %q: it must be a string, an integer or a boolean", key)
		}
	}
	return nil
}

func checkPorts(rules []api.PortForwardRule) error {
	for _, rule := range rules {
		if rule.Name == "" {
			return required("port_forwarding_override.name")
		}
		if !isPort(string(rule.GuestPort)) {
			return wire.Failf("port_forwarding_override %q: guest_port %q must be from 1 to 65535", rule.Name, rule.GuestPort)
		}
		if rule.HostPort != "" && !isPort(string(rule.HostPort)) {
			return wire.Failf("port_forwarding_override %q: host_port %q must be from 1 to 65535", rule.Name, rule.HostPort)
		}
		if rule.HostIP != "" && net.ParseIP(rule.HostIP) == nil {
			return wire.Failf("port_forwarding_override %q: host_ip %q is not an address", rule.Name, rule.HostIP)
		}
	}
	return nil
}

func isPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 1 && n <= 65535
}
