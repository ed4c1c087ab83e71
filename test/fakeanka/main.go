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
//	FAKEANKA_VERSION      what `version` answers (default 3.9.1)
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
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	// SIGTERM ends a pull politely: what it has is kept.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// env is one call.
type env struct {
	store   *store
	machine bool   // JSON on stdout
	vmFault string // what the VM to be started is to suffer
}

// command is one entry of the command table. run returns the body of the answer.
type command struct {
	flags string // options, see parse
	run   func(ctx context.Context, e *env, o options) (any, error)
}

var commands map[string]command

func init() { // not a literal: help walks the table
	commands = map[string]command{
		"list":     {"r running, s stopped, a all, f field:", listVMs},
		"show":     {"t tag:, f filter:", showVM},
		"clone":    {"c copy, t tag:", cloneVM},
		"start":    {"f force, q quiet, v verbose, u update-addons, mount:, disable-auto-mount, login-passwd", startVM},
		"stop":     {"a all, f force", stopVM},
		"suspend":  {"a all", suspendVM},
		"reboot":   {"f force", rebootVM},
		"delete":   {"yes, a all, t tag:, cache", deleteVM},
		"run":      {"w workdir:, E inherit, e env:, f env-file:, q quiet, b background, n no-volume", runInVM},
		"modify":   {"s size:, t type:, b bridge:, m mac:, v vlan:, local, no-local, f filter:, a all", modifyVM},
		"push":     {pushFlags, pushVM},
		"pull":     {pullFlags, pullVM},
		"registry": {"r remote:, insecure, cert:, key:, cacert:, api-key-id:, api-key:, o oci:, u user:, p prefix:, default, list", registryCommand},
		"license":  {"", license},
		"version":  {"", version},
		"config":   {"l list", config},
		"attach":   {"", nothing},
		"detach":   {"a all", nothing},
		"usb":      {"n name:, a all", usb},
		"create":   {"size:, layers:, t tag:, uuid:", createVM},
		vmCommand:  {"", runVMProcess},

		guestCommand: {"", becomeGuest},
	}
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
	o, err := parse(cmd.flags, args[1:], name == "run" || name == "registry")
	if err != nil {
		return e.fail(err)
	}
	return e.call(ctx, name, cmd, o, args)
}

// call runs one command with the faults that are set for it.
func (e *env) call(ctx context.Context, name string, cmd command, o options, args []string) int {
	if strings.HasPrefix(name, "__") {
		return e.finish(cmd.run(ctx, e, o))
	}
	e.store.logCall(args)
	f, err := e.store.takeFault(name, args)
	if err != nil {
		return e.fail(err)
	}
	if f != nil && !f.After {
		if done, code := e.inject(ctx, f); done {
			return code
		}
	}
	body, err := cmd.run(ctx, e, o)
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
