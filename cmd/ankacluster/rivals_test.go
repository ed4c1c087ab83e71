package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/agent/doctor"
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
	printError(&out, err)
	if !strings.Contains(out.String(), "end each other's VMs") || !strings.Contains(out.String(), "launchctl bootout system/com.veertu.anka.cluster.agent") {
		t.Errorf("it says:\n%s", &out)
	}
}

func TestJoinRefusesATranslatedProgram(t *testing.T) {
	old := translated
	defer func() { translated = old }()
	if err := refuseTranslated(t.Context()); err != nil {
		t.Fatalf("the right program: %v", err)
	}
	translated = func(context.Context) doctor.Finding {
		return doctor.Finding{Check: "program", Level: doctor.Fail, Summary: "it runs translated", Advice: "install the one for arm64"}
	}
	err := refuseTranslated(t.Context())
	var out strings.Builder
	printError(&out, err)
	if err == nil || !strings.Contains(out.String(), "it runs translated") || !strings.Contains(out.String(), "install the one for arm64") {
		t.Errorf("it says:\n%s", &out)
	}
}
