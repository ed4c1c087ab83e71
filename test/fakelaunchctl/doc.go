// Package fakelaunchctl stands in for launchd in tests: it loads property lists, runs
// their programs as real processes, starts them again after a failure, and answers
// `launchctl` with the words and codes of the real one.
//
//	l, err := fakelaunchctl.New(fakelaunchctl.Options{Dir: dir})
//	defer l.Close()
//	reply := l.Command("bootstrap", "system", plist)
//
// Serve makes it answer at a socket, where the program below launchctl asks, so that
// other programs find a command by the name of launchctl.
//
// What is known, from the manual of launchctl and from users' reports of macOS 10.10
// to 26, is built in; where reports differ, or nothing was found, Options has a
// switch, and the tests of package launchd run with each of its positions.
//
//   - bootout answers at once, 0 since about macOS 11 and 36 before; the job stays,
//     as SIGTERMed, until its process has ended, which launchd forces after
//     ExitTimeOut. Meanwhile bootstrap gives 5 or 37, kickstart 37.
//   - A job that has ended with 0, or waits after a failure, is loaded all the same:
//     bootstrap gives 5.
//   - The property list counts as it was when it was loaded.
//   - bootstrap succeeds when the program does not exist; the job then ends with 78.
//   - bootstrap refuses with 5 a property list that is not root's or that others may
//     write, and with 119 or 5 a job that is switched off.
//   - disable ends no process. It outlives a reboot, as does enable.
//
// The only domain is system, and rights are not looked at.
package fakelaunchctl
