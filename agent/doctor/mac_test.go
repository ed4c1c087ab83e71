package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func recorded(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "mac", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// What macOS answers, and what is made of it. Of words of another language nothing is
// made.
func TestAnswersOfMacOS(t *testing.T) {
	const img = "/Volumes/SSD/images"
	for name, c := range map[string]struct {
		got   Finding
		level Level  // "" for no finding
		says  string // in summary or advice
	}{
		"FileVault off":        {fileVault("FileVault is Off.\n"), OK, "off"},
		"FileVault on":         {fileVault("FileVault is On.\n"), Warn, "authrestart"},
		"FileVault at work":    {fileVault("FileVault is On.\nEncryption in progress: Percent completed = 12.34\n"), Warn, "password"},
		"FileVault deferred":   {fileVault("FileVault is Off.\nDeferred enablement appears to be active for user 'a'.\n"), Warn, "about to be"},
		"FileVault in German":  {fileVault("FileVault ist deaktiviert.\n"), "", ""},
		"a mini set up":        {sleepSettings(recorded(t, "pmset-mini")), OK, ""},
		"a mini of the box":    {sleepSettings(recorded(t, "pmset-factory")), Warn, "sudo pmset -a sleep 0 disksleep 0 autorestart 1"},
		"a laptop, mains only": {sleepSettings(recorded(t, "pmset-laptop")), OK, ""},
		"pmset in French":      {sleepSettings("Courant secteur:\n veille 1\n"), "", ""},
		"translated":           {translated("amd64", "1\n"), Fail, "arm64"},
		"Intel":                {translated("amd64", ""), "", ""},
		"Apple silicon":        {translated("arm64", "1\n"), "", ""},
		"few files":            {openFiles("2048\n"), Warn, "2048"},
		"files enough":         {openFiles("61440\n"), "", ""},
		"files unknown":        {openFiles("sysctl: unknown oid\n"), "", ""},
		"macOS 26, anka 3.7":   {macOSWants("26.0\n", "3.7.4"), Fail, "3.8"},
		"macOS 26, anka 3.8":   {macOSWants("26.0.1\n", "3.8.0"), "", ""},
		"macOS 15, anka 3.7":   {macOSWants("15.6\n", "3.7.4"), "", ""},
		"indexed":              {indexed(img, img+":\n\tIndexing enabled.\n"), Warn, "mdutil -i off " + img},
		"not indexed":          {indexed(img, img+":\n\tIndexing disabled.\n"), "", ""},
		"no index":             {indexed(img, "Error: unknown indexing state.\n"), "", ""},
		"backed up":            {backedUp(img, "[Included]    "+img+"\n"), Warn, "addexclusion"},
		"not backed up":        {backedUp(img, "[Excluded]    "+img+"\n"), "", ""},
		"ad hoc, external":     {signature("/x", []string{img}, "Signature=adhoc\nTeamIdentifier=not set\n"), Warn, "Full Disk Access"},
		"ad hoc, inside":       {signature("/x", []string{"/opt/images"}, "Signature=adhoc\n"), "", ""},
		"signed, external":     {signature("/x", []string{img}, "TeamIdentifier=ABCDE12345\n"), "", ""},
		"snapshots":            {snapshots(recorded(t, "snapshots")), Warn, "2 of Time Machine"},
		"no snapshots":         {snapshots("Snapshots for disk /:\n"), "", ""},
		"filters":              {filters(recorded(t, "extensions")), Warn, "network: Example Filter."},
		"no filters":           {filters("0 extension(s)\n"), "", ""},
	} {
		f := c.got
		if f.Level != c.level || !strings.Contains(f.Summary+"\n"+f.Advice, c.says) || f.Level == Warn && f.Advice == "" || f.Level == Fail && f.Advice == "" {
			t.Errorf("%s: %+v, want level %q and %q", name, f, c.level, c.says)
		}
	}
}

func TestTemplatesOfAnotherUserAreFound(t *testing.T) {
	homes = t.TempDir()
	if f := imagesOfOthers(0, "anna"); f.Check != "" {
		t.Errorf("a user without any: %+v", f)
	}
	if err := os.MkdirAll(filepath.Join(homes, "anna/Library/Application Support/Veertu/Anka/vm_lib/c12f"), 0o755); err != nil {
		t.Fatal(err)
	}
	if f := imagesOfOthers(0, "anna"); f.Level != Warn || f.Target != "anna" {
		t.Errorf("a user with a template: %+v", f)
	}
	for _, console := range []string{"", "root", "loginwindow", "../anna"} {
		if f := imagesOfOthers(0, console); f.Check != "" {
			t.Errorf("console user %q: %+v", console, f)
		}
	}
	if f := imagesOfOthers(501, "anna"); f.Check != "" {
		t.Errorf("not by root: %+v", f)
	}
}

// A Mac whose tools are missing, or answer with an error, has no findings of them; on
// other systems they are not asked.
func TestMacIsAskedByFullPathsAndMayNotAnswer(t *testing.T) {
	asked := 0
	tool := func(_ context.Context, path string, _ ...string) (string, error) {
		asked++
		if !filepath.IsAbs(path) {
			t.Errorf("%s is not a full path", path)
		}
		return "FileVault is On.", errors.New("exit status 1")
	}
	if f := checkMac(t.Context(), Config{GOOS: "linux", Tool: tool}); len(f) > 0 || asked > 0 {
		t.Errorf("on Linux %d commands, %+v", asked, f)
	}
	if f := checkMac(t.Context(), Config{GOOS: "darwin", Tool: tool}); len(f) > 0 || asked == 0 {
		t.Errorf("%d commands that failed, %+v", asked, f)
	}
	tool = func(_ context.Context, path string, _ ...string) (string, error) {
		if path == "/usr/bin/fdesetup" {
			return "FileVault is On.\n", nil
		}
		return "", nil
	}
	if f := checkMac(t.Context(), Config{GOOS: "darwin", Tool: tool}); len(f) != 1 || f[0].Check != "FileVault" {
		t.Errorf("with FileVault: %+v", f)
	}
}

func TestInactiveNodeIsNamedWithItsReason(t *testing.T) {
	f := checkAgents(t.Context(), Config{AgentPID: 7, Inactive: "no valid licence"})
	if len(f) != 1 || f[0].Level != Fail || !strings.Contains(f[0].Summary, "Inactive") || !strings.Contains(f[0].Summary, "no valid licence") {
		t.Errorf("%+v", f)
	}
}
