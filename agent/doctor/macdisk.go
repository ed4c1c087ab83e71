package doctor

import (
	"fmt"
	"strings"
)

// indexed reads `mdutil -s DIR`.
func indexed(dir, out string) Finding {
	if !strings.Contains(out, "Indexing enabled") {
		return Finding{}
	}
	return Finding{Check: "Spotlight", Target: dir, Level: Warn, Summary: "the volume of images is indexed: each pull is read once more",
		Advice: "System Settings, Spotlight, Search Privacy: add " + dir + "; or for a volume of its own: sudo mdutil -i off " + dir}
}

// backedUp reads `tmutil isexcluded DIR`.
func backedUp(dir, out string) Finding {
	if !strings.Contains(out, "[Included]") {
		return Finding{}
	}
	return Finding{Check: "Time Machine", Target: dir, Level: Warn, Summary: "images are backed up, and snapshots keep the space of deleted ones",
		Advice: "sudo tmutil addexclusion -p '" + dir + "'"}
}

// signature reads `codesign -dv`. macOS grants Full Disk Access to a signature; one
// that is made anew with each build loses it with each upgrade.
func signature(program string, dirs []string, out string) Finding {
	external := ""
	for _, dir := range dirs {
		if strings.HasPrefix(dir, "/Volumes/") {
			external = dir
		}
	}
	if external == "" || !strings.Contains(out, "Signature=adhoc") && !strings.Contains(out, "not signed") {
		return Finding{}
	}
	return Finding{Check: "code signature", Target: program, Level: Warn,
		Summary: "not of a known developer: its right to " + external + " ends with each upgrade",
		Advice:  "grant Full Disk Access anew after each upgrade, or sign it with a Developer ID and a fixed identifier"}
}

// snapshots reads `tmutil listlocalsnapshots /`: a line for each, after one that
// names the disk.
func snapshots(out string) Finding {
	n := 0
	for line := range strings.Lines(out) {
		if strings.HasPrefix(strings.TrimSpace(line), "com.apple.TimeMachine.") {
			n++
		}
	}
	if n == 0 {
		return Finding{}
	}
	return Finding{Check: "snapshots", Level: Warn, Summary: fmt.Sprintf("%d of Time Machine on this disk: they keep the space of deleted images, which counts as used", n),
		Advice: "sudo tmutil deletelocalsnapshots /"}
}

// filters reads `systemextensionsctl list`: below the name of each kind a line for
// each extension, which ends with its state in brackets.
func filters(out string) Finding {
	var names []string
	kind := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "--- "); ok {
			kind, _, _ = strings.Cut(name, " ")
			continue
		}
		watches := strings.HasSuffix(kind, ".network_extension") || strings.HasSuffix(kind, ".endpoint_security")
		if fields := strings.Split(line, "\t"); watches && strings.HasSuffix(line, "[activated enabled]") && len(fields) > 4 {
			names = append(names, strings.TrimSpace(fields[4]))
		}
	}
	if len(names) == 0 {
		return Finding{}
	}
	return Finding{Check: "filters", Level: Warn, Summary: "programs that watch files or the network: " + strings.Join(names, ", ") + ". They slow pulls down, and may cut loopback",
		Advice: "have images, anka, tart and 127.0.0.1 left out, or remove them from build hosts"}
}
