// Package command runs the programs that the agent depends on and does not
// trust: they may hang, crash, leave children behind, or print without end.
//
//	r := command.New(dir, log)
//	res, err := r.Run(ctx, command.Command{
//		Path:    "/usr/local/bin/anka",
//		Args:    command.Words("-j", "list"),
//		Timeout: 30 * time.Second,
//	})
//
// Guarantees:
//   - Each command runs in a process group of its own. When its time is over, it
//     makes no progress for too long, or the caller goes away, the whole group
//     gets SIGTERM and after Grace SIGKILL, and Run returns.
//   - Run returns soon after the program has ended, also when a child of it keeps
//     the output open: what `anka start` leaves running is its VM.
//   - Output is bounded: the last MaxOutput bytes of each stream are kept.
//   - A group that outlived a killed agent is found and ended by KillLeftovers.
//   - What Spawn starts is meant to outlive the agent, and belongs to it only until
//     it is kept.
//   - Every command is one line in the command log, with duration and result and
//     without its environment and input, which is where secrets travel.
package command
