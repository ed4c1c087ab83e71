// Package machine reads what a host says of itself: processors, memory, disk, load,
// address and identity.
package machine

import (
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/buildinfo"
)

// Machine is the host that the agent runs on. It is safe for concurrent use.
type Machine struct {
	disk        string // where VMs are kept if the hypervisor names no place
	controllers func() []string

	mu       sync.Mutex
	dirs     []string                // guarded by mu; where images and VMs are kept, by the hypervisor
	cpu      cpuTimes                // guarded by mu; at the last sample
	load     controllerapi.NodeLoad  // guarded by mu
	sampled  time.Time               // guarded by mu
	hardware controllerapi.NodeFacts // guarded by mu; what cannot change while we run
}

// loadFresh is how long a sample of the load is good for.
const loadFresh = time.Second

// cpuTimes are counters since boot, in any unit.
type cpuTimes struct{ busy, total float64 }

// New returns this host. controllers names where the node's traffic goes,
// which decides its address.
func New(disk string, controllers func() []string) *Machine {
	m := &Machine{disk: disk, controllers: controllers, cpu: readCPU()}
	m.hardware = controllerapi.NodeFacts{
		CPUCount: uint(cpuCount()), RAM: uint((totalRAM() + 1<<29) >> 30), HostArch: hostArch(),
	}
	return m
}

// Identify returns what distinguishes this host, and the agent's state directory on
// it, from a copy of its disk.
func Identify(dir string) controllerapi.HostIdentity {
	id := controllerapi.HostIdentity{Hardware: hardwareID(), Place: dir}
	if abs, err := filepath.Abs(dir); err == nil {
		id.Place = abs
	}
	if real, err := filepath.EvalSymlinks(id.Place); err == nil {
		id.Place = real
	}
	return id
}

// platformLine is the property of a Mac's platform in what ioreg prints, whatever
// the language.
var platformLine = regexp.MustCompile(`"IOPlatformUUID" = "([0-9A-Fa-f-]{36})"`)

func platformUUID(ioreg []byte) string {
	m := platformLine.FindSubmatch(ioreg)
	if m == nil {
		return ""
	}
	return controllerapi.HardwareMac + strings.ToLower(string(m[1]))
}

// Facts returns what rarely changes.
func (m *Machine) Facts() controllerapi.NodeFacts {
	m.mu.Lock()
	f := m.hardware
	m.mu.Unlock()
	f.DiskSize, _ = m.space()
	f.AgentVersion = buildinfo.Version
	return f
}

// Load returns a sample of the load that is at most a second old.
func (m *Machine) Load() controllerapi.NodeLoad {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.sampled) < loadFresh {
		return m.load
	}
	now := readCPU()
	if total := now.total - m.cpu.total; total > 0 {
		m.load.CPUUtil = clamp((now.busy - m.cpu.busy) / total)
	}
	m.cpu, m.sampled = now, time.Now()
	m.load.RAMUtil = clamp(usedRAM())
	_, m.load.FreeDiskSpace = leastSpace(m.dirs, m.disk)
	return m.load
}

// KeepOn names the directories that images and VMs are kept in.
func (m *Machine) KeepOn(dirs []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dirs, m.sampled = dirs, time.Time{}
}

func (m *Machine) space() (size, free uint64) {
	m.mu.Lock()
	dirs := m.dirs
	m.mu.Unlock()
	return leastSpace(dirs, m.disk)
}

// leastSpace returns size and free space of the volume that has the least, of those
// that dirs are on; of fallback's when none is there, as a disk that is not plugged
// in.
func leastSpace(dirs []string, fallback string) (size, free uint64) {
	for _, dir := range dirs {
		if s, f := diskSpace(dir); s > 0 && (size == 0 || f < free) {
			size, free = s, f
		}
	}
	if size == 0 {
		return diskSpace(fallback)
	}
	return size, free
}

func clamp(f float64) float64 { return min(max(f, 0), 1) }

// Address returns the local address from which the first controller that has a
// route is reached, or "". No packet is sent.
func (m *Machine) Address() string {
	fallback := ""
	for _, c := range m.controllers() {
		u, err := url.Parse(c)
		if err != nil {
			continue
		}
		port := u.Port()
		if port == "" {
			port = "80"
		}
		conn, err := net.DialTimeout("udp", net.JoinHostPort(u.Hostname(), port), 2*time.Second)
		if err != nil {
			continue
		}
		ip := conn.LocalAddr().(*net.UDPAddr).IP
		conn.Close()
		if !ip.IsLoopback() {
			return ip.String()
		}
		fallback = ip.String() // a controller on this host
	}
	return fallback
}

func diskSpace(path string) (size, free uint64) {
	var s unix.Statfs_t
	if unix.Statfs(path, &s) != nil {
		return 0, 0
	}
	return s.Blocks * uint64(s.Bsize), s.Bavail * uint64(s.Bsize)
}
