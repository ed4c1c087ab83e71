package doctor

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// D5: Veertu's own agent is found by its service, running or not, and by its
// process; others that use VM slots are a warning.
func TestRivals(t *testing.T) {
	daemons := t.TempDir()
	if err := os.WriteFile(filepath.Join(daemons, "com.veertu.anklet.plist"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	const ps = `  1 /sbin/launchd
 90 /Library/Application Support/x/anka_agent_tool
123 /usr/local/bin/anka_agent --config x
124 vi anka_agent
200 /opt/homebrew/bin/orchard worker run
201 /opt/homebrew/bin/orchard list vms
`
	var names []string
	for _, r := range findRivals([]byte(ps), daemons) {
		names = append(names, r.Name+": "+r.Seen)
	}
	want := []string{"Veertu's Anka agent: it runs as process 123", "anklet: its service is installed: " + filepath.Join(daemons, "com.veertu.anklet.plist"), "an Orchard worker: it runs as process 200"}
	if len(names) != len(want) {
		t.Fatalf("got %q, want %q", names, want)
	}
	for i := range want {
		if names[i] != want[i] {
			t.Errorf("got %q, want %q", names[i], want[i])
		}
	}
	if found := findRivals(nil, t.TempDir()); len(found) != 0 {
		t.Errorf("on a Mac of its own: %+v", found)
	}
	if err := os.WriteFile(filepath.Join(daemons, "com.veertu.anka.cluster.agent.plist"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	findings := checkRivals(t.Context(), Config{Rivals: func(context.Context) ([]Rival, error) { return findRivals(nil, daemons), nil }})
	if len(findings) != 2 || findings[0].Level != Fail || findings[1].Level != Warn {
		t.Errorf("findings: %+v", findings)
	}
}
