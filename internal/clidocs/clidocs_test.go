package clidocs

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "write the golden files")

// testApp has what is awkward in pages and completions.
func testApp() *cli.App {
	return &cli.App{
		Name: "build-farm", Usage: "farm the builds",
		Description: "It's for \\those who `farm`.\n.hidden is no request - it is text.\n\nLike this:\n   build-farm --dir ~/x grow oats\n   'quoted' line",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Aliases: []string{"d"}, Usage: "keep it in `DIR`", Value: "/var", EnvVars: []string{"FARM_DIR"}, Category: "Places"},
			&cli.BoolFlag{Name: "secret-switch", Hidden: true},
			&cli.BoolFlag{Name: "quiet", Usage: "say\nless", Category: "Words"},
			&cli.DurationFlag{Name: "every", Usage: "look every `DURATION`", Category: "Places"},
		},
		Commands: []*cli.Command{
			{Name: "grow", Usage: "let something grow, the farmer's way", ArgsUsage: "WHAT", Flags: []cli.Flag{&cli.IntFlag{Name: "rows", Usage: "`N` rows"}}},
			{Name: "stock", Usage: "what is there", Subcommands: []*cli.Command{{Name: "list", Usage: "list it", Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}}}}},
			{Name: "internal", Usage: "not for people", Hidden: true},
			CompletionCommand("build-farm", func(err error) error { return errUsage{err} }),
			ManCommand(Page{}),
		},
	}
}

type errUsage struct{ error }

func TestManualPageIsGolden(t *testing.T) {
	got := Man(testApp(), Page{Section: 8, Version: "1.2.3", Date: "2026-11-29", Files: [][2]string{{"/etc/build-farm", "settings"}}, SeeAlso: []string{"other(1)"}})
	const golden = "testdata/build-farm.8"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the page is\n%s\nwant\n%s", got, want)
	}
}

func script(t *testing.T, shell string) string {
	t.Helper()
	var out strings.Builder
	app := testApp()
	app.Writer = &out
	if err := app.Run([]string{"build-farm", "completion", shell}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestCompletionOfAnUnknownShellIsAUsageError(t *testing.T) {
	err := testApp().Run([]string{"build-farm", "completion", "tcsh"})
	var usage errUsage
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), `"tcsh"`) {
		t.Errorf("got %v, want a usage error that names the shell", err)
	}
}

// completed are lines and what a shell offers at their end.
var completed = []struct {
	line string
	want string
}{
	{"build-farm gr", "grow"},
	{"build-farm --qu", "--quiet"},
	{"build-farm --dir x st", "stock"},
	{"build-farm --dir x grow --r", "--rows"},
	{"build-farm stock li", "list"},
	{"build-farm stock list --js", "--json"},
	{"build-farm completion zs", "zsh"},
	{"build-farm int", ""},
	{"build-farm --secr", ""},
}

func TestBashCompletes(t *testing.T) {
	bash := shellPath(t, "bash")
	text := script(t, "bash")
	for _, c := range completed {
		words := strings.Fields(c.line)
		cmd := exec.Command(bash, "-c", `eval "$0"; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=(); _build_farm; echo "${COMPREPLY[*]}"`)
		cmd.Args = append(append(cmd.Args, text), words...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
			t.Errorf("%q is completed to %q (%v), want %q", c.line, got, err, c.want)
		}
	}
}

func TestFishCompletes(t *testing.T) {
	fish := shellPath(t, "fish")
	file := filepath.Join(t.TempDir(), "build-farm.fish")
	if err := os.WriteFile(file, []byte(script(t, "fish")), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range completed {
		cmd := exec.Command(fish, "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", file, c.line)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		got, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\t")
		if err != nil || got != c.want {
			t.Errorf("%q is completed to %q (%v), want %q", c.line, out, err, c.want)
		}
	}
}

func TestZshCompletes(t *testing.T) {
	zsh := shellPath(t, "zsh")
	// The builtins of completion work on a terminal alone; here they print.
	const play = `
compdef() { : }
compadd() { shift; print -l -- "$@" | grep -- "^$PREFIX" }
_describe() { print -l -- "${(@P)2}" | sed 's/:.*//' | grep -- "^$PREFIX" }
_files() { : }
eval "$(<$1)"
words=(${=2}) CURRENT=${#words} PREFIX=${words[-1]}
_build_farm
`
	file := filepath.Join(t.TempDir(), "_build-farm")
	if err := os.WriteFile(file, []byte(script(t, "zsh")), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range completed {
		out, err := exec.Command(zsh, "-f", "-c", play, "zsh", file, c.line).CombinedOutput()
		if got := strings.TrimSpace(string(out)); got != c.want {
			t.Errorf("%q is completed to %q (%v), want %q", c.line, got, err, c.want)
		}
	}
}

func shellPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s on this machine", name)
	}
	return path
}
