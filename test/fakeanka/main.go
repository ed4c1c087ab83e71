// Command fakeanka stands in for the `anka` command of a Mac in tests, demos and
// drills. It honours the command line and the JSON of the real one as far as the
// agent needs them, and what it does is real where that matters: templates are
// pulled from and pushed to the registry it is given, a VM is a process that
// outlives whoever started it, a forwarded port is a listener, and `run` runs
// the command in the VM's directory.
//
//	FAKEANKA_DIR=/tmp/mac1 fakeanka create sonoma --size 64M -t v1
//	FAKEANKA_DIR=/tmp/mac1 fakeanka registry -o2 -p team -r http://127.0.0.1:8089 push sonoma -t v1
//	FAKEANKA_DIR=/tmp/mac2 fakeanka -j registry -o2 -p team -r http://127.0.0.1:8089 pull sonoma -t v1
//	FAKEANKA_DIR=/tmp/mac2 fakeanka -j clone sonoma vm1
//	FAKEANKA_DIR=/tmp/mac2 fakeanka -j start vm1
//
// # Environment
//
//	FAKEANKA_DIR          where VMs, layers and the log of calls are (default: fakeanka below the user's cache directory)
//	FAKEANKA_MAX_RUNNING  VMs that may run at once (default 2, as on arm64; 0: no limit)
//	FAKEANKA_PORT_BASE    first host port to forward (default 10000)
//	FAKEANKA_BOOT         how long a VM has no IP address after its start (default 0s)
//	FAKEANKA_VERSION      the version to play: 3.6, 3.8 or 3.9 with any third number (default 3.9.1)
//	FAKEANKA_UNKNOWN      answers to what is not known of the real command; see unknown
//	FAKEANKA_GUEST_DISK   names of the guest's APFS container and its store (default "disk3 disk0s2")
//	FAKEANKA_LICENSE      "invalid": no valid licence
//	FAKEANKA_FAULTS       faults, as in the file faults.json; see package fakefault
//
// # Files
//
//	vms/<uuid>/vm.json    one VM or template; vms/<uuid>/root is its disk
//	layers/<hex>          image files by digest, shared
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
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if tool := guestTools[filepath.Base(os.Args[0])]; tool != nil {
		os.Exit(tool(os.Args[1:]))
	}
	// SIGTERM ends a pull politely: what it has is kept.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// env is one call.
type env struct {
	store   *store
	facts   facts
	machine bool   // JSON on stdout
	vmFault string // what the VM to be started is to suffer
}

// command returns the body of the answer.
type command func(ctx context.Context, e *env, o options) (any, error)

var commands map[string]command

func init() { // not a literal: help walks the table
	commands = map[string]command{
		"list": listVMs, "show": showVM, "clone": cloneVM, "start": startVM, "stop": stopVM, "suspend": suspendVM,
		"reboot": rebootVM, "delete": deleteVM, "run": runInVM, "modify": modifyVM, "push": pushVM, "pull": pullVM,
		"registry": registryCommand, "license": license, "version": version, "config": config,
		"attach": nothing, "detach": nothing, "usb": usb, "log": showLog,
		"create": createVM, vmCommand: runVMProcess, guestCommand: becomeGuest,
	}
}

// own are the options of commands that are the fake's own, or that it has made
// its own: to create a template takes no installer here.
var own = map[string]string{"create": "size= layers= t,tag= uuid=", vmCommand: "", guestCommand: ""}

func ownCommand(name string) bool { _, ok := own[name]; return ok }

// parse reads the arguments of a command, which may be of several words.
func (e *env) parse(name string, args []string, lead bool) (options, error) {
	list, ok := own[name]
	if !ok {
		if list, ok = e.facts[name]; !ok {
			return options{}, usageError("no such command: " + name)
		}
	}
	return parse(list, args, lead)
}

func usageError(message string) error {
	return &ankaError{Message: message, Type: "UsageError", exit: 2}
}

func run(ctx context.Context, args []string) int {
	e := &env{}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-j", "--machine-readable":
			e.machine = true
		case "--debug":
		case "--help", "-h":
			usage()
			return 0
		default:
			return e.fail(&ankaError{Message: "no such option: " + args[0], Type: "UsageError", exit: 2})
		}
		args = args[1:]
	}
	if len(args) == 0 {
		usage()
		return 2
	}
	name := args[0]
	cmd, ok := commands[name]
	if !ok {
		return e.fail(&ankaError{Message: "no such command: " + name, Type: "UsageError", exit: 2})
	}
	var err error
	if e.store, err = openStore(); err != nil {
		return e.fail(err)
	}
	if e.facts, err = loadFacts(versionNumber()); err != nil {
		return e.fail(err)
	}
	lead := name == "run" || name == "registry" || name == "modify" || name == "show" || name == "license"
	o, err := e.parse(name, args[1:], lead)
	if err != nil {
		return e.fail(err)
	}
	return e.call(ctx, name, cmd, o, args)
}

// call runs one command with the faults that are set for it.
func (e *env) call(ctx context.Context, name string, cmd command, o options, args []string) int {
	if strings.HasPrefix(name, "__") {
		return e.finish(cmd(ctx, e, o))
	}
	e.store.logCall(args)
	if err := e.collectDue(); err != nil {
		return e.fail(err)
	}
	f, err := e.store.takeFault(name, args)
	if err != nil {
		return e.fail(err)
	}
	if f != nil && !f.After {
		if done, code := e.inject(ctx, f); done {
			return code
		}
	}
	body, err := cmd(ctx, e, o)
	if f != nil && f.After {
		if done, code := e.inject(ctx, f); done {
			return code
		}
	}
	return e.finish(body, err)
}

func (e *env) finish(body any, err error) int {
	var exit guestExit
	switch {
	case errors.As(err, &exit):
		return int(exit)
	case err != nil:
		return e.fail(err)
	}
	e.answer(body)
	return 0
}

// ankaError is a failure as `anka -j` tells it.
type ankaError struct {
	Message string
	Code    int // 3 not found, 18 name taken; else 1
	Type    string
	exit    int
}

func (e *ankaError) Error() string { return e.Message }

func notFound(what string) error {
	return &ankaError{Message: fmt.Sprintf("%s: not found", what), Code: 3, Type: "VMNotFoundException"}
}

func failf(format string, args ...any) error {
	return &ankaError{Message: fmt.Sprintf(format, args...), Code: 1, Type: "AnkaException"}
}

func (e *env) fail(err error) int {
	var a *ankaError
	if !errors.As(err, &a) {
		a = &ankaError{Message: err.Error(), Code: 1, Type: "AnkaException"}
	}
	if a.exit == 0 {
		a.exit = 1
		if a.Code == 1 && unknown("exit-30") {
			a.exit = 30
		}
	}
	if !e.machine {
		fmt.Fprintln(os.Stderr, a.Message)
		return a.exit
	}
	e.print(map[string]any{"status": "ERROR", "message": a.Message, "code": a.Code, "exception_type": a.Type})
	return a.exit
}

func (e *env) answer(body any) {
	if e.machine {
		if body == nil {
			body = map[string]any{}
		}
		e.print(map[string]any{"status": "OK", "body": body, "message": ""})
		return
	}
	switch b := body.(type) {
	case nil:
	case string:
		fmt.Println(b)
	case int64:
		fmt.Println(b)
	default:
		if m, ok := b.(map[string]any); ok && len(m) == 2 && m["uuid"] != nil && m["name"] != nil {
			fmt.Println(m["uuid"]) // as a clone in human form
			return
		}
		data, _ := json.MarshalIndent(b, "", "  ") // made of plain values
		fmt.Println(string(data))
	}
}

// print writes one object without a final newline: that is how clients find the
// end of it.
func (e *env) print(v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // made of plain values
	}
	os.Stdout.Write(data)
}

func usage() {
	names := make([]string, 0, len(commands))
	for n := range commands {
		if !strings.HasPrefix(n, "__") {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	fmt.Fprintf(os.Stderr, "Usage: fakeanka [-j|--machine-readable] COMMAND ...\n\nA stand-in for the anka command. Commands:\n  %s\n", strings.Join(names, "\n  "))
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }
