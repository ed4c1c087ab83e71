// Command faketart stands in for the `tart` command of a Mac in tests, demos and
// drills. It honours the command line, the JSON, the messages and the exit codes
// of the real one as far as the agent needs them, and what it does is real where
// that matters: images are pulled from and pushed to the registry that is named, a
// VM is the process of `run` and is found by its lock on config.json, and `exec`
// runs the command in the VM's directory.
//
//	TART_HOME=/tmp/mac1 faketart create --from-ipsw latest sonoma
//	TART_HOME=/tmp/mac1 faketart push --insecure sonoma 127.0.0.1:8089/team/sonoma:v1
//	TART_HOME=/tmp/mac2 faketart pull --insecure 127.0.0.1:8089/team/sonoma:v1
//	TART_HOME=/tmp/mac2 faketart clone 127.0.0.1:8089/team/sonoma:v1 vm1
//	TART_HOME=/tmp/mac2 faketart run --no-graphics vm1 &
//	TART_HOME=/tmp/mac2 faketart list --format json
//
// What it does not do as the real one: disks are not compressed in the registry
// (the layers have the media type and the annotations all the same), a disk's size
// is a number beside it, and nothing is pruned but what a killed pull left.
//
// # Environment
//
//	TART_HOME             where VMs and images are (default ~/.tart, as with the real one)
//	FAKETART_DISK_BYTES   size of a created disk's random content, such as 64M (default 1M)
//	FAKETART_MAX_RUNNING  macOS VMs that may run at once (default 2; 0: no limit)
//	FAKETART_LOST_SLOTS   how many of those macOS holds although no VM uses them (default 0)
//	FAKETART_BOOT         how long after its start a guest asks for an address and its agent answers (default 0s)
//	FAKETART_GUEST_AGENT  "off": the images have no guest agent; "grow": it is told to grow the file system
//	FAKETART_VERSION      which tart this is (default 2.35.0): its options and, where they are known, its faults
//	FAKETART_CONSOLE_UID  who is logged in at the screen (default: any but root)
//	FAKETART_KEYCHAIN     "locked": that user's keychain is
//	FAKETART_ADDRESSES    how many addresses there are for VMs (default 253)
//	FAKETART_LEASE        how long a VM's address is kept from others (default 24h)
//	FAKETART_FAULTS       faults, as in the file faults.json; see package fakefault
//
// # Files, below TART_HOME
//
//	vms/NAME              a local VM: config.json, disk.img, nvram.bin
//	cache/OCIs/HOST/...   images: a directory for each digest, a symbolic link for each tag
//	leases.json           the host's DHCP leases, by hardware address
//	spins                 a line for each exec that kept a core of a real host busy
//	faults.json           what is to go wrong
//	calls.log             one JSON object a call, for tests to count
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/ankacluster/ankacluster/test/fakefault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// command is one entry of the command table.
type command struct {
	usage string // what stands after the name
	args  int    // how many arguments it takes at least
	run   func(ctx context.Context, s *store, o options) error
}

var commands map[string]command

func init() { // not a literal: help walks the table
	commands = map[string]command{
		"create":  {"[--from-ipsw <path>] [--linux] [--disk-size <GB>] <name>", 1, create},
		"clone":   {"<source-name> <new-name>", 2, clone},
		"run":     {"<name>", 1, runVM},
		"set":     {"<name>", 1, set},
		"get":     {"<name>", 1, get},
		"list":    {"[--source <source>] [--format <format>] [--quiet]", 0, list},
		"login":   {"<host>", 1, login},
		"ip":      {"<name>", 1, ip},
		"exec":    {"[-i] [-t] <name> <command> ...", 2, execute},
		"pull":    {"<remote-name>", 1, pull},
		"push":    {"<local-name> <remote-names> ...", 2, push},
		"rename":  {"<name> <new-name>", 2, rename},
		"stop":    {"<name>", 1, stop},
		"suspend": {"<name>", 1, suspend},
		"delete":  {"<name> ...", 1, remove},
	}
}

func run(ctx context.Context, args []string) int {
	if len(args) > 0 && args[0] == guestCommand {
		return becomeGuest(args[1:])
	}
	if versionNumber() == "2.33.0" { // for want of an entitlement
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	s, err := openStore()
	if err != nil {
		return fail(err)
	}
	if len(args) == 0 || slices.Contains([]string{"--help", "-h", "help"}, args[0]) {
		usage()
		return 0
	}
	name := args[0]
	fakefault.LogCall(s.home, args) // passwords come by standard input
	cmd, ok := commands[name]
	if !ok && name != "--version" {
		return fail(&validationError{fmt.Sprintf("Unexpected argument '%s'", name), "<subcommand>"})
	}
	f, err := fakefault.Take(s.home, os.Getenv("FAKETART_FAULTS"), []string{strings.TrimPrefix(name, "--")}, args)
	if err != nil {
		return fail(err)
	}
	if f != nil && !f.After {
		if done, code := s.inject(ctx, f); done {
			return code
		}
	}
	if name == "--version" {
		fmt.Println(versionNumber())
	} else {
		if name != "pull" && name != "clone" {
			s.discardPulls()
		}
		err = call(ctx, s, name, cmd, args[1:])
	}
	if f != nil && f.After {
		if done, code := s.inject(ctx, f); done {
			return code
		}
	}
	if err != nil {
		return fail(err)
	}
	return 0
}

func call(ctx context.Context, s *store, name string, cmd command, args []string) error {
	known, err := loadFacts(versionNumber())
	if err != nil {
		return err
	}
	o, err := parse(known[name], args, name == "exec")
	if err == nil && len(o.args) < cmd.args {
		err = &validationError{message: "Missing expected argument '" + strings.Fields(cmd.usage)[0] + "'"}
	}
	if err != nil {
		return &validationError{err.Error(), name + " " + cmd.usage}
	}
	return cmd.run(ctx, s, o)
}

func (s *store) inject(ctx context.Context, f *fakefault.Fault) (done bool, code int) {
	if f.Action == "fail" {
		return true, fail(&runtimeError{f.Reason(), max(f.Code, 1)})
	}
	s.vmFault = f.VM()
	return f.Inject(ctx, "[\n  {\n    \"Source\" : \"local\",\n    \"Name\" : \"")
}

// runtimeError is printed as it is, and has an exit code of its own.
type runtimeError struct {
	message string
	code    int
}

func (e *runtimeError) Error() string { return e.message }

func failf(format string, args ...any) error { return &runtimeError{fmt.Sprintf(format, args...), 1} }

func missing(name string) error {
	return &runtimeError{fmt.Sprintf("the specified VM %q does not exist", name), 2}
}

func notRunning(name string) error {
	return &runtimeError{fmt.Sprintf("VM %q is not running", name), 2}
}

// validationError is a wrong call; usage follows it.
type validationError struct{ message, usage string }

func (e *validationError) Error() string { return e.message }

// guestExit is the exit code of a command in the guest, which becomes ours.
type guestExit int

func (g guestExit) Error() string { return fmt.Sprintf("guest command ended with %d", int(g)) }

// fail prints an error where and as the real command does.
func fail(err error) int {
	var exit guestExit
	var wrong *validationError
	var known *runtimeError
	switch {
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &wrong):
		fmt.Fprintf(os.Stderr, "Error: %s\nUsage: tart %s\n  See 'tart --help' for more information.\n", wrong.message, wrong.usage)
		return 64
	case errors.As(err, &known):
		fmt.Fprintln(os.Stderr, known.message)
		return known.code
	}
	fmt.Fprintln(os.Stderr, "Error:", err)
	return 1
}

func usage() {
	names := make([]string, 0, len(commands))
	for n := range commands {
		names = append(names, n)
	}
	slices.Sort(names)
	fmt.Printf("USAGE: tart <subcommand>\n\nA stand-in for the tart command. Subcommands:\n  %s\n", strings.Join(names, "\n  "))
}

// options is a parsed command line.
type options struct {
	flags map[string][]string
	args  []string
}

func (o options) has(name string) bool { return len(o.flags[name]) > 0 }

func (o options) value(name string) string {
	if v := o.flags[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// parse reads args by a list of options as facts have it; an option is kept by the
// last of its names. Options stand anywhere, unless lead is set: then what follows
// the first argument is passed through.
func parse(known string, args []string, lead bool) (options, error) {
	takes, long := make(map[string]bool), make(map[string]string)
	for spec := range strings.FieldsSeq(known) {
		names := strings.Split(strings.TrimSuffix(spec, "="), ",")
		for _, n := range names {
			takes[n], long[n] = strings.HasSuffix(spec, "="), names[len(names)-1]
		}
	}
	o := options{flags: make(map[string][]string)}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if !strings.HasPrefix(arg, "-") {
			o.args = append(o.args, arg)
			if lead {
				o.args = append(o.args, args...)
				return o, nil
			}
			continue
		}
		key, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		takesValue, ok := takes[key]
		if !ok {
			return o, &validationError{message: fmt.Sprintf("Unknown option '%s'", arg)}
		}
		if takesValue && !given {
			if len(args) == 0 {
				return o, &validationError{message: fmt.Sprintf("Missing value for '%s <%s>'", arg, key)}
			}
			value, args = args[0], args[1:]
		}
		o.flags[long[key]] = append(o.flags[long[key]], value)
	}
	return o, nil
}

// printJSON prints as the real command does: indented, with a space before the
// colon.
func printJSON(v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Println(strings.ReplaceAll(string(data), `": `, `" : `))
	return err
}
