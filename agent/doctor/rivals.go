package doctor

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// LaunchDaemons is where macOS keeps the services that it starts at boot.
const LaunchDaemons = "/Library/LaunchDaemons"

// Rival is another program of this machine that makes VMs, and ends them, with the
// same hypervisor.
type Rival struct {
	Name string
	// Seen is where it was found.
	Seen string
	// Leave is how to get rid of it.
	Leave string
	// Removes: it ends VMs that it does not know. Two such programs end each other's.
	Removes bool
}

// rivals are the ones that are known, by the labels of their services and the
// names of their programs.
var rivals = []struct {
	name, label string
	programs    []string
	arg         string // that the program must have, "" for any
	removes     bool
	leave       string
}{
	{"Veertu's Anka agent", "com.veertu.anka.cluster.agent", []string{"anka_agent", "anka_agent_helper"}, "", true,
		"run `sudo ankacluster disjoin` of the old program if it is still there, else: sudo launchctl bootout system/com.veertu.anka.cluster.agent; " +
			"sudo rm " + LaunchDaemons + "/com.veertu.anka.cluster.agent.plist"},
	{"anklet", "com.veertu.anklet", []string{"anklet"}, "", false, "stop it with sudo launchctl bootout system/com.veertu.anklet, or keep its VMs off this Mac"},
	{"an Orchard worker", "", []string{"orchard"}, "worker", false, "stop its service, or keep it off this Mac"},
	{"a Buildkite agent", "", []string{"buildkite-agent"}, "", false, "see to it that its jobs start no VMs here"},
	{"a GitLab runner", "", []string{"gitlab-runner"}, "", false, "see to it that its jobs start no VMs here"},
}

// Rivals looks for other users of the hypervisor among the services in daemons and
// the processes.
func Rivals(ctx context.Context, daemons string) ([]Rival, error) {
	ps, err := listProcesses(ctx)
	return findRivals(ps, daemons), err
}

func findRivals(ps []byte, daemons string) []Rival {
	var found []Rival
	for _, r := range rivals {
		seen := ""
		plist := filepath.Join(daemons, r.label+".plist")
		if _, err := os.Stat(plist); r.label != "" && err == nil {
			seen = "its service is installed: " + plist
		}
		for line := range bytes.Lines(ps) {
			fields := strings.Fields(string(line))
			if len(fields) < 2 || !slices.Contains(r.programs, filepath.Base(fields[1])) || r.arg != "" && !slices.Contains(fields[2:], r.arg) {
				continue
			}
			if pid, err := strconv.Atoi(fields[0]); err == nil {
				seen = fmt.Sprintf("it runs as process %d", pid)
				break
			}
		}
		if seen != "" {
			found = append(found, Rival{r.name, seen, r.leave, r.removes})
		}
	}
	return found
}

func checkRivals(ctx context.Context, cfg Config) []Finding {
	if cfg.Rivals == nil {
		return nil
	}
	found, err := cfg.Rivals(ctx)
	if err != nil {
		return nil // checkAgents tells that processes cannot be listed
	}
	var all []Finding
	for _, r := range found {
		f := Finding{Check: "other users of VMs", Target: r.Name, Level: Warn, Summary: r.Seen + "; VMs that it starts take this node's places", Advice: r.Leave}
		if r.Removes {
			f.Level, f.Summary = Fail, r.Seen+"; it and ankacluster would end each other's VMs"
		}
		all = append(all, f)
	}
	return all
}
