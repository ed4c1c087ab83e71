// Package packages installs the Linux packages of a release into a Debian system
// that systemd has booted, and uses, upgrades, removes and purges them there.
// test/packages/run makes what the tests need and says so when something is missing:
//
//	make test-packages                  packages of this tree
//	make test-packages PACKAGES=dist    those that make release has made
package packages
