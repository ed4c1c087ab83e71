package launchd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Answers of print in the forms that users of macOS 10.10 to 26 have shown.
func TestAnswersOfPrint(t *testing.T) {
	for name, want := range map[string]struct {
		status  Status
		leaving bool
	}{
		"10.10-waiting-idle":       {status: Status{State: Stopped, LastExit: "0"}},
		"10.10-waiting-crashed":    {status: Status{State: Failed, Restarts: 6, LastExit: "1"}},
		"10.14-running":            {status: Status{State: Running, PID: 1486, Restarts: 2, LastExit: "0"}},
		"13-running":               {status: Status{State: Running, PID: 4242}},
		"15-killed":                {status: Status{State: Failed, Restarts: 1, LastExit: "Killed: 9"}},
		"15-exited-0":              {status: Status{State: Stopped, LastExit: "0"}},
		"26-running-after-crashes": {status: Status{State: Running, PID: 63810, Restarts: 9961, LastExit: "78: EX_CONFIG"}},
		"26-crash-loop":            {status: Status{State: Failed, Restarts: 4, LastExit: "5"}},
		"26-no-program":            {status: Status{State: Failed, Restarts: 53, LastExit: "78: EX_CONFIG"}},
		"26-bad-signature":         {status: Status{State: Failed, Restarts: 2379, LastExit: "OS_REASON_CODESIGNING"}},
		"26-never-started":         {status: Status{State: Stopped}},
		"26-about-to-start":        {status: Status{State: Running}},
		"26-leaving":               {status: Status{State: Running, PID: 4242}, leaving: true},
		"26-leaving-killed":        {status: Status{State: Running, PID: 4242}, leaving: true},
	} {
		data, err := os.ReadFile(filepath.Join("testdata", "print", name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		j := parsePrint(string(data))
		if got := j.status(); got != want.status || j.leaving() != want.leaving {
			t.Errorf("%s: %+v, leaving %t, want %+v, %t", name, got, j.leaving(), want.status, want.leaving)
		}
		if j.path != "/Library/LaunchDaemons/com.example.agent.plist" || j.program != "/usr/local/bin/example" || len(j.arguments) == 0 || j.arguments[0] != j.program {
			t.Errorf("%s: path %q, program %q, arguments %q", name, j.path, j.program, j.arguments)
		}
	}
	if files, err := filepath.Glob("testdata/print/*.txt"); err != nil || len(files) != 14 {
		t.Errorf("%d recorded answers, %v: is each of them looked at?", len(files), err)
	}
}

func TestLoadedJobIsComparedWithWhatIsInstalled(t *testing.T) {
	loaded := job{path: "/L/a.plist", program: "/bin/a", arguments: []string{"/bin/a", "run", "two words"}}
	for name, same := range map[string]struct {
		j    job
		path string
		prog string
		args []string
		want bool
	}{
		"the same":            {loaded, "/L/a.plist", "/bin/a", []string{"run", "two words"}, true},
		"an empty argument":   {loaded, "/L/a.plist", "/bin/a", []string{"run", "", "two words"}, true},
		"another program":     {loaded, "/L/a.plist", "/bin/b", []string{"run", "two words"}, false},
		"another argument":    {loaded, "/L/a.plist", "/bin/a", []string{"run", "one word"}, false},
		"one argument more":   {loaded, "/L/a.plist", "/bin/a", []string{"run", "two words", "more"}, false},
		"another place":       {loaded, "/M/a.plist", "/bin/a", []string{"run", "two words"}, false},
		"nothing can be read": {job{}, "/L/a.plist", "/bin/a", []string{"run"}, true},
	} {
		if got := same.j.runsWith(same.path, same.prog, same.args); got != same.want {
			t.Errorf("%s: %t, want %t", name, got, same.want)
		}
	}
}

func TestSwitchedOffJobs(t *testing.T) {
	for _, c := range []struct {
		out  string
		want bool
	}{
		{"disabled services = {\n\t\"ankacluster\" => true\n}\n", true},
		{"\n\tdisabled services = {\n\t\t\"ankacluster\" => disabled\n\t}\n", true},
		{"\tdisabled services = {\n\t\t\"ankacluster\" => enabled\n\t}\n", false},
		{"disabled services = {\n\t\"ankacluster\" => false\n}\n", false},
		{"disabled services = {\n\t\"com.ankacluster\" => true\n\t\"ankacluster2\" => true\n}\n", false},
		{"", false},
	} {
		if got := parseDisabled(c.out, "ankacluster"); got != c.want {
			t.Errorf("parseDisabled(%q) = %t, want %t", c.out, got, c.want)
		}
	}
}

// Whatever launchctl prints, the parser ends, and no block below the job's own keys
// decides.
func FuzzPrint(f *testing.F) {
	files, err := filepath.Glob("testdata/print/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Fuzz(func(t *testing.T, out string) {
		j := parsePrint(out)
		if j.pid < 0 || j.runs < 0 {
			t.Errorf("pid %d, runs %d", j.pid, j.runs)
		}
		st := j.status()
		if !slices.Contains([]State{Stopped, Running, Failed}, st.State) || st.PID != 0 && st.State != Running {
			t.Errorf("%+v of %+v", st, j)
		}
		if inner := parsePrint("x = {\n\tblock = {\n" + strings.ReplaceAll("\n"+out, "\n", "\n\t\t") + "\n\t}\n}\n"); inner.pid != 0 {
			t.Errorf("process %d out of an inner block", inner.pid)
		}
	})
}
