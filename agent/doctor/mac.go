package doctor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// Tool runs a command of the system and returns what it wrote, on both streams, also
// when it failed.
type Tool func(ctx context.Context, path string, args ...string) (string, error)

// runTool is the Tool of a real system: in the C locale, whose words are read here.
func runTool(ctx context.Context, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// checkMac looks at what keeps a Mac from being a build host. What cannot be asked is
// no finding: other releases may have other tools.
func checkMac(ctx context.Context, cfg Config) []Finding {
	if cfg.GOOS != "darwin" {
		return nil
	}
	ask := func(path string, args ...string) string {
		out, err := cfg.Tool(ctx, path, args...)
		if err != nil {
			return ""
		}
		return out
	}
	var dirs []string
	if rt, ok := cfg.Hypervisor.(hypervisor.Placed); ok {
		dirs, _ = rt.Dirs(ctx) // checkHypervisor tells what does not work
	}
	var found []Finding
	add := func(f Finding) {
		if f.Check != "" {
			found = append(found, f)
		}
	}
	add(fileVault(ask("/usr/bin/fdesetup", "status")))
	add(sleepSettings(ask("/usr/bin/pmset", "-g", "custom")))
	add(translated(runtime.GOARCH, ask("/usr/sbin/sysctl", "-n", "hw.optional.arm64")))
	add(openFiles(ask("/usr/sbin/sysctl", "-n", "kern.maxfilesperproc")))
	if cfg.HypervisorName == "anka" && cfg.Hypervisor != nil {
		v, err := cfg.Hypervisor.Version(ctx)
		if err == nil {
			add(macOSWants(ask("/usr/bin/sw_vers", "-productVersion"), v.Version))
		}
		add(imagesOfOthers(cfg.EUID, strings.TrimSpace(ask("/usr/bin/stat", "-f", "%Su", "/dev/console"))))
	}
	for _, dir := range dirs {
		add(indexed(dir, ask("/usr/bin/mdutil", "-s", dir)))
		if backups := ask("/usr/bin/tmutil", "destinationinfo"); strings.Contains(backups, "Name") {
			add(backedUp(dir, ask("/usr/bin/tmutil", "isexcluded", dir)))
		}
	}
	if self, err := os.Executable(); err == nil {
		add(signature(self, dirs, ask("/usr/bin/codesign", "-dv", self)))
	}
	add(snapshots(ask("/usr/bin/tmutil", "listlocalsnapshots", "/")))
	add(filters(ask("/usr/bin/systemextensionsctl", "list")))
	return found
}

// fileVault reads `fdesetup status`.
func fileVault(out string) Finding {
	f := Finding{Check: "FileVault", Level: OK, Summary: "is off"}
	switch {
	case strings.Contains(out, "FileVault is On"), strings.Contains(out, "Encryption in progress"), strings.Contains(out, "Deferred enablement"):
		f.Level = Warn
		f.Summary = "is on, or about to be: after a power cut this Mac waits for a password before it starts any service"
		f.Advice = "switch it off on build hosts (sudo fdesetup disable), or restart it with sudo fdesetup authrestart"
	case !strings.Contains(out, "FileVault is Off"):
		return Finding{}
	}
	return f
}

// sleepSettings reads `pmset -g custom`: a block for each source of power, and in it a
// line for each setting. Laptops have no autorestart.
func sleepSettings(out string) Finding {
	mains := make(map[string]string)
	block := "AC Power"
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\r\n")
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), ":"); ok {
			block = name
			continue
		}
		// The name may have words, the value is the next to come, and remarks follow:
		// sleep 1 (sleep prevented by caffeinate)
		fields := strings.Fields(line)
		for i, v := range fields {
			if _, err := strconv.Atoi(v); err == nil && i > 0 && block == "AC Power" {
				mains[strings.Join(fields[:i], " ")] = v
				break
			}
		}
	}
	if mains["sleep"] == "" {
		return Finding{}
	}
	var wrong, set []string
	for _, s := range []struct{ name, want, effect string }{
		{"sleep", "0", "it falls asleep between jobs"}, {"disksleep", "0", "its disks do"},
		{"autorestart", "1", "it stays off after a power cut"}, {"womp", "1", "the network does not wake it"},
	} {
		if have := mains[s.name]; have != "" && have != s.want {
			wrong = append(wrong, fmt.Sprintf("%s (%s is %s)", s.effect, s.name, have))
			set = append(set, s.name+" "+s.want)
		}
	}
	f := Finding{Check: "power", Level: OK, Summary: "this Mac neither sleeps nor stays off"}
	if len(wrong) > 0 {
		f.Level, f.Summary = Warn, strings.Join(wrong, ", ")
		f.Advice = "sudo pmset -a " + strings.Join(set, " ")
	}
	return f
}

// Translated finds that this program is for Intel and runs on Apple silicon: its
// hypervisor's commands would run translated, too. Otherwise the finding is empty.
func Translated(ctx context.Context) Finding {
	if runtime.GOOS != "darwin" {
		return Finding{}
	}
	out, err := runTool(ctx, "/usr/sbin/sysctl", "-n", "hw.optional.arm64")
	if err != nil {
		return Finding{} // Intel Macs have no such name
	}
	return translated(runtime.GOARCH, out)
}

// translated finds a program for Intel on Apple silicon.
func translated(goarch, arm64 string) Finding {
	if goarch != "amd64" || strings.TrimSpace(arm64) != "1" {
		return Finding{}
	}
	return Finding{Check: "program", Level: Fail, Summary: "this ankacluster is for Intel and runs translated by Rosetta, as do the commands that it starts",
		Advice: "install the one for arm64"}
}

// fewFiles is what a node with two VMs and many forwarded ports comes near to.
const fewFiles = 10240

func openFiles(out string) Finding {
	n, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || n >= fewFiles {
		return Finding{}
	}
	return Finding{Check: "open files", Level: Warn, Summary: fmt.Sprintf("a process may have %d: too few for VMs with many ports", n),
		Advice: fmt.Sprintf("remove what lowers it: sudo sysctl kern.maxfilesperproc=%d", 6*fewFiles)}
}

// macOSWants knows which releases of macOS need a newer anka.
func macOSWants(macOS, anka string) Finding {
	macOS = strings.TrimSpace(macOS)
	if !hypervisor.AtLeast(macOS, 26, 0) || hypervisor.AtLeast(anka, 3, 8) {
		return Finding{}
	}
	return Finding{Check: "macOS", Level: Fail, Summary: fmt.Sprintf("%s runs no VMs of anka %s, which needs 3.8", macOS, anka), Advice: "install a newer anka"}
}

// homes is where the users of a Mac are; a test has its own.
var homes = "/Users"

// imagesOfOthers finds templates of the user at the screen, which root's anka does not
// see.
func imagesOfOthers(euid int, console string) Finding {
	if euid != 0 || console == "" || console == "root" || console == "loginwindow" || strings.ContainsAny(console, "/\x00") {
		return Finding{}
	}
	dir := filepath.Join(homes, console, "Library/Application Support/Veertu/Anka")
	for _, lib := range []string{"vm_lib", "img_lib"} {
		if entries, err := os.ReadDir(filepath.Join(dir, lib)); err == nil && len(entries) > 0 {
			return Finding{Check: "templates of others", Target: console, Level: Warn,
				Summary: fmt.Sprintf("the user has VMs or images of his own (%s): the agent does not see them, and they take space", dir),
				Advice:  "pull with sudo anka, and delete them as that user if nobody needs them"}
		}
	}
	return Finding{}
}
