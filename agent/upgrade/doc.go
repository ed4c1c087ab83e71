// Package upgrade replaces the agent's program by a newer one, and puts the old
// one back when the new one does not prove itself.
//
//	Prepare   download, verify the signature, run it once to ask its version
//	Begin     keep the old program, start the guard from it, swap
//	(restart) the new program runs
//	Confirm   called by the new program once the cloud has heard from it
//	Guard     the old program, watching: no Confirm in time, and it swaps back
//
// # Guarantees
//
//   - At every moment a whole program is at its path: files are written beside
//     it, synced and renamed.
//   - The new program need not work at all for the old one to come back: the
//     guard is a process of the old one.
//   - Only what a trusted key signed is made executable, run or installed. The
//     signature is minisign's, and says for which version, system, processor and size
//     it is (Statement). Keys are compiled in by the release, or named by join: who
//     answers as a controller gains nothing by it.
//   - A version lower than the one that runs, or than one that worked here, is
//     refused unless it is signed as a downgrade.
//   - A download that is cut short, of another checksum, for another machine or
//     of another version than announced changes nothing.
//   - When the guard dies as well, as in a power cut, the new program counts its
//     starts and refuses to go on after MaxStarts without a Confirm: it swaps
//     back by itself. Only a program that cannot even be executed, together with
//     a power cut within the guard's time, needs a person.
//
// What the controller serves as AnkaAgent.pkg and AnkaAgentArm.pkg is the bare
// ankacluster program for macOS, whatever the names say: they are the paths that
// the API documents. A real installer package is refused with ErrPackage; expanding
// one would need a xar and a cpio reader, and its scripts could not be run as the
// installer runs them.
//
// Virtual machines are not touched: they survive the agent's restarts.
package upgrade
