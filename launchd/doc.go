// Package launchd installs a program of ours as a system service and runs it as
// one: a LaunchDaemon on macOS, a systemd unit on Linux.
//
//	svc, err := launchd.New(launchd.Config{
//		Name:        "ankacluster",
//		Description: "node agent of the build cloud",
//		Executable:  "/usr/local/bin/ankacluster",
//		Arguments:   []string{"agent"},
//	})
//	err = svc.Install()  // write the definition, start at boot
//	err = svc.Restart()  // run it, now and with the definition just written
//
// and in the process that the service manager then starts:
//
//	err := launchd.Run(ctx, "ankacluster", func(ctx context.Context) error { ... })
//
// # Guarantees
//
//   - A service that ends with an error, a panic or a signal such as SIGKILL is
//     started again after RestartDelay, for ever: there is no number of failures
//     after which the service manager gives up. One that ends without an error,
//     because it was told to stop, stays down until the next boot or Start.
//   - SIGTERM cancels the context that Run gives to the function. If the function
//     has not returned within StopTimeout, the process is killed.
//   - Only the process itself is signalled. What it has started, such as virtual
//     machines, lives on over a stop, a restart and an upgrade.
//   - Installing over an installed service replaces its definition. Uninstalling
//     what is not installed is no error, so both can be repeated.
//   - Start, Stop, Restart, Install and Uninstall work from every state that launchd
//     can have a job in: loaded without a process, waiting after a crash, about to
//     go, switched off, loaded from a property list that was changed or removed
//     since. They return when it is so, or with an error; ErrDisabled where
//     somebody has to switch the service on.
//
// # launchd
//
// launchd is asked by `launchctl print`, `enable`, `bootstrap`, `kickstart -k` and
// `bootout`, because kardianos/service's load and unload fail for jobs that are
// loaded and do not run. A job that is loaded with what is installed is started in
// its place; all others leave first, which is waited for. Starting a service
// switches it on. Tests do all this to package test/fakelaunchctl. kardianos/service
// is what systemd is driven by, and what Run runs in.
//
// # Not guaranteed
//
// The definition can be read by every user of the machine, and so can its
// arguments and environment: secrets belong in a file that only the service can
// read.
//
// Output that the service writes to stdout and stderr goes to the journal on
// Linux and to a file below LogDir on macOS, which nothing rotates: a program
// should keep its own rotated log and leave stderr to panics.
//
// A Service is not safe for concurrent use. It starts no goroutines.
package launchd
