package drill

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/ankacluster/ankacluster/balancer/drill/process"
)

// Packets to one backend are dropped inside a network namespace of its own. The
// namespace belongs to the backend's process: it and the link into it are gone
// with the process, and the machine's own firewall is never touched.

// cannotIsolate says why this machine cannot drop packets; "" when it can.
func cannotIsolate() string {
	if os.Geteuid() != 0 {
		return "dropping packets needs root"
	}
	for _, tool := range []string{"ip", "iptables", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "dropping packets needs the command " + tool
		}
	}
	return ""
}

func (b *backendProcess) startIsolated() error {
	argv := append(b.stage.command(), b.arguments("0.0.0.0:8090")...)
	p, err := process.StartWith(argv, func(a *syscall.SysProcAttr) { a.Cloneflags |= syscall.CLONE_NEWNET })
	if err != nil {
		return err
	}
	b.proc = p
	if _, err := p.Greet(); err != nil {
		return err
	}
	// 198.18.0.0/15 is set aside for measuring network devices (RFC 2544), so it
	// is nobody's real network. The process id keeps two drills apart.
	pid := p.PID()
	link, peer := fmt.Sprintf("drill%d", pid), fmt.Sprintf("drilp%d", pid)
	net := fmt.Sprintf("198.18.%d.", pid%250)
	host := pid / 250 % 60 * 4
	here, there := net+strconv.Itoa(host+1), net+strconv.Itoa(host+2)
	inside := []string{"nsenter", "-t", strconv.Itoa(pid), "-n"}
	for _, argv := range [][]string{
		{"ip", "link", "add", link, "type", "veth", "peer", "name", peer},
		{"ip", "link", "set", peer, "netns", strconv.Itoa(pid)},
		{"ip", "addr", "add", here + "/30", "dev", link},
		{"ip", "link", "set", link, "up"},
		append(inside, "ip", "addr", "add", there+"/30", "dev", peer),
		append(inside, "ip", "link", "set", peer, "up"),
	} {
		if err := command(argv); err != nil {
			return err
		}
	}
	b.addr = there + ":8090"
	return nil
}

func (b *backendProcess) dropPackets() error { return b.firewall("-A") }
func (b *backendProcess) passPackets() error { return b.firewall("-D") }

func (b *backendProcess) firewall(change string) error {
	return command([]string{"nsenter", "-t", strconv.Itoa(b.proc.PID()), "-n",
		"iptables", "-w", change, "INPUT", "-p", "tcp", "-j", "DROP"})
}

func command(argv []string) error {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
