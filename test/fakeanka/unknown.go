package main

import (
	"os"
	"slices"
	"strings"
)

// The unknown: what nothing public says of the real command. Each is a switch,
// and the agent's tests run with both answers. FAKEANKA_UNKNOWN lists those that
// are other than by default:
//
//	no-uuid          a pushed configuration names no VM: the puller makes an id up (U1)
//	one-row          `list -a` has a row for each template, not for each tag (U2)
//	port-address     a port rule with a host port needs an address (U4)
//	start-again      `start` of a running VM succeeds (U5)
//	no-vnc           `show` tells no VNC port (U6)
//	exit-30          failures without a code of their own end with 30 (U8)
//	list-fields      `list --field` refuses a field that it does not know
//	progress         pull and push print a progress object with -j before the answer
//
// The answer to a pull names the VM by default; with "pull-mute" it does not.
func unknown(name string) bool {
	return slices.Contains(strings.Split(os.Getenv("FAKEANKA_UNKNOWN"), ","), name)
}
