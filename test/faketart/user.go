package main

import (
	"os"
	"strconv"
)

// macOS starts a macOS guest only for a user whose login keychain is open. Root has
// none. FAKETART_CONSOLE_UID is the number of the user who is logged in; without it
// that is any but root. Tests that run as root name root.

// What the system says otherwise: for root it gives no reason.
const (
	noReason   = `Error Domain=VZErrorDomain Code=1 "The virtual machine failed to start." UserInfo={NSLocalizedFailure=Internal Virtualization error., NSLocalizedFailureReason=The virtual machine failed to start.}`
	noKeychain = `Error Domain=VZErrorDomain Code=-9 "The virtual machine encountered a security error." UserInfo={NSLocalizedFailure=Unable to access security information., NSUnderlyingError=0x70a074a50 {Error Domain=NSPOSIXErrorDomain Code=22 "Invalid argument" UserInfo={NSLocalizedFailureReason=Failed to create new HostKey.}}}`
)

// checkKeychain is what the system does when a guest starts.
func checkKeychain(c config) error {
	if c.OS != "darwin" {
		return nil
	}
	uid := os.Getuid()
	if console := os.Getenv("FAKETART_CONSOLE_UID"); console != "" && console != strconv.Itoa(uid) || console == "" && uid == 0 {
		return failf("%s", noReason)
	}
	if os.Getenv("FAKETART_KEYCHAIN") == "locked" {
		return failf("%s", noKeychain)
	}
	return nil
}
