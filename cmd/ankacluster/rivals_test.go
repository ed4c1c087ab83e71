package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// D5: join refuses beside Veertu's agent, also while that does not run, and says how
// to leave it.
func TestJoinRefusesBesideVeertusAgent(t *testing.T) {
	launchDaemons = t.TempDir()
	var warnings strings.Builder
	if err := refuseRivals(t.Context(), &warnings); err != nil {
		t.Fatalf("on a Mac of its own: %v", err)
	}
	if err := os.WriteFile(filepath.Join(launchDaemons, "com.veertu.anka.cluster.agent.plist"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := refuseRivals(t.Context(), &warnings)
	var out strings.Builder
	if err == nil {
		t.Fatal("it joins")
	}
	complain(&out, err)
	if !strings.Contains(out.String(), "end each other's VMs") || !strings.Contains(out.String(), "launchctl bootout system/com.veertu.anka.cluster.agent") {
		t.Errorf("it says:\n%s", &out)
	}
}
