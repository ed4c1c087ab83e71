package main

import (
	"context"
	"os"

	"github.com/ankacluster/ankacluster/test/fakefault"
)

// takeFault returns the fault for this call, or nil; "registry pull" also goes by
// the name pull.
func (s *store) takeFault(name string, args []string) (*fakefault.Fault, error) {
	names := []string{name}
	if name == "registry" {
		names = append(names, args[1:]...)
	}
	return fakefault.Take(s.dir, os.Getenv("FAKEANKA_FAULTS"), names, args)
}

// inject does what f says and reports whether the call ends with that.
func (e *env) inject(ctx context.Context, f *fakefault.Fault) (done bool, code int) {
	if f.Action == "fail" {
		return true, e.fail(&ankaError{Message: f.Reason(), Code: f.Code, Type: "AnkaException"})
	}
	e.vmFault = f.VM()
	return f.Inject(ctx, `{"status":"OK","body":[{"uuid":"`)
}
