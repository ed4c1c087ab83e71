package launchd

// State is what a service is doing.
type State string

// The states of a service. Failed means that it ended with an error and waits
// for its restart, or was given up by hand.
const (
	NotInstalled State = "not installed"
	Stopped      State = "stopped"
	Running      State = "running"
	Failed       State = "failed"
)

// Status is what the service manager knows.
type Status struct {
	State State
	// PID is the main process, 0 if there is none or it is not known.
	PID int
	// Restarts counts the restarts since the last Start of this Service; where that
	// was another process's, since the service was loaded at boot or at a join, with
	// those that somebody asked for.
	Restarts int
	// LastExit is how the last process ended, in the service manager's words: "0",
	// "78: EX_CONFIG", "Killed: 9"; "" if none has or it is not known. launchd only.
	LastExit string
	// Enabled is true when the service starts at boot.
	Enabled bool
}
