// Package hypervisor is what the agent asks of a hypervisor on its node: the
// few verbs and nouns that anka and others have in common.
//
// A new hypervisor is a package beside anka and tart, opened by agent/node's
// OpenRuntime, that keeps the promises of test/runtimes.
//
// A Runtime is safe for concurrent use. Its methods return when the command
// has ended or been ended; they never retry. Unless said otherwise a method is
// idempotent: asked again, it finds the work done.
package hypervisor

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Errors that a Runtime's methods wrap.
var (
	// ErrNotFound: no VM or image of that name or id.
	ErrNotFound = errors.New("not found on this node")
	// ErrNameTaken: another VM has the name.
	ErrNameTaken = errors.New("name is taken")
	// ErrTooMany: the hypervisor runs as many VMs as it may. Another node may
	// have room.
	ErrTooMany = errors.New("the hypervisor runs as many VMs as it may")
	// ErrLicense: the licence does not allow it or has expired.
	ErrLicense = errors.New("licence does not allow it")
	// ErrNotInRegistry: the registry has no such template or tag.
	ErrNotInRegistry = errors.New("not in the registry")
	// ErrDiskFull: the disk that VMs and images are kept on has no room.
	ErrDiskFull = errors.New("the disk is full")
	// ErrOutdated: this version of the hypervisor cannot do what is asked for. A
	// node with a newer one can.
	ErrOutdated = errors.New("the hypervisor's version cannot do that")
	// ErrMissing: the hypervisor's command is not installed.
	ErrMissing = errors.New("the hypervisor's command was not found")
	// ErrKeychain: the system starts no VMs for the user that they belong to. A node
	// where that user is logged in does.
	ErrKeychain = errors.New("the user's keychain is locked or missing")
	// ErrForeign: the image in the registry is of another hypervisor. A node that
	// has that one may run it.
	ErrForeign = errors.New("the image is not one of this hypervisor")
	// ErrUnsupported: this hypervisor cannot do what is asked for, ever.
	ErrUnsupported = errors.New("the hypervisor cannot do that")
)

// Status of a VM. A hypervisor's other words pass through as they are.
type Status string

const (
	Running   Status = "running"
	Stopped   Status = "stopped"
	Suspended Status = "suspended"
	Failed    Status = "failed"
)

// VM is a virtual machine on this node. What List does not tell is zero.
type VM struct {
	UUID, Name string
	// Tag is set for images: what was pulled from a registry. Repository is where
	// that was, "" from a hypervisor that knows the image by the template's UUID.
	Tag, Repository string
	// Pulled: a pull brought it, although it may have no tag any more.
	Pulled bool

	Status  Status
	Created time.Time
	Started time.Time // zero unless it runs
	Ended   time.Time // of its last run
	CPU     int
	RAM     int    // MB
	IP      string // "" until the guest has one
	VNCPort int
	Ports   []Port
	// Failure is why the last run ended badly, where the hypervisor told; else nil.
	Failure error
}

// Port is a port forward in force.
type Port struct {
	Name     string
	Guest    int
	Host     int
	Protocol string
}

// Version of the hypervisor and its licence.
type Version struct {
	Product      string `json:"product"`
	Version      string `json:"version"`
	Build        string `json:"build"`
	License      string `json:"license"`
	Expires      string `json:"expires"`
	LicenseValid bool   `json:"license_valid"`
}

// Image is a template with a tag.
type Image struct {
	ID   string
	Name string
	Tag  string
	// Repository is where the registry has it.
	Repository string
}

// Has reports whether vm, as List returned it, is an image of the template,
// whatever its tag.
func (i Image) Has(vm VM) bool {
	if vm.Repository != "" {
		return vm.Repository == i.Repository
	}
	return vm.UUID != "" && vm.UUID == i.ID
}

// Source is where an image is pulled from or pushed to.
type Source struct {
	URL    string // the loopback proxy, or a push registry
	Prefix string // of the OCI repository, "" for none
	// User is name:password of the transfer, "" where none is asked for. A
	// command has it from its environment, where other users do not see it.
	User string
	// Moved counts bytes that went through the proxy for this image; a transfer
	// that moves bytes is not stalled. Nil when nothing counts.
	Moved func() int64
}

// Transfer is what a pull or a push needs of a registry.
type Transfer struct {
	// Repository is "" for a push that makes one.
	Repository, Tag string
	// Digest is the manifest that the tag must be of, "" for whichever it is of.
	Digest string
	Write  bool
}

// Options of a VM that are set between clone and start. Zero values leave what
// the template has.
type Options struct {
	CPU, RAM     int // RAM in MB
	DiskSize     string
	SkipResize   bool // leave the guest's file system as it is; see StartOptions.GrowDisk
	NetworkMode  string
	VLAN         string
	MAC          string
	NetworkLocal string // forceOn, forceOff
	// Ports replaces all rules when Replace is set.
	Ports        []PortRule
	ReplacePorts bool
	// Intel only.
	VideoController, HVAPIC, CSRActiveConfig, HWSerial, HWUUID string
}

// PortRule asks for a port forward. HostPort 0 lets the hypervisor choose.
type PortRule struct {
	Name      string
	GuestPort int
	HostIP    string
	HostPort  int
}

// StartOptions of one start.
type StartOptions struct {
	VNCPassword string
	Timeout     time.Duration
	// GrowDisk makes the guest's file system as large as its disk.
	GrowDisk bool
}

// Script is run inside a VM by its shell.
type Script struct {
	Text    []byte
	Timeout time.Duration // 0 means none
}

// ScriptResult is what a script left: the last 1 MB of each stream.
type ScriptResult struct {
	ExitCode       int
	Stdout, Stderr []byte
	TimedOut       bool
}

// PushOptions of one push.
type PushOptions struct {
	Template    string // remote template; "" pushes under the VM's own name
	Tag         string
	Description string
	Force       bool
}

// Runtime is a hypervisor.
type Runtime interface {
	// Version asks for the hypervisor's version and licence.
	Version(ctx context.Context) (Version, error)
	// Check returns an error that wraps ErrUnsupported and names everything that
	// this hypervisor cannot do of what a start asks for; nil when it can. It runs
	// no command.
	Check(o Options, s StartOptions, usbDevice string) error
	// List returns all VMs and images of the node, running or not.
	List(ctx context.Context) ([]VM, error)
	// Show returns one VM with everything that is known of it.
	Show(ctx context.Context, id string) (VM, error)

	// Pull brings an image to the node. After an error the image may be half
	// there: the caller removes it.
	Pull(ctx context.Context, img Image, from Source) error
	// Push sends a stopped or suspended VM to a registry as a new tag.
	Push(ctx context.Context, id string, to Source, o PushOptions) error
	// RemoveImage removes an image, or with an empty tag all of its tags.
	RemoveImage(ctx context.Context, img Image) error

	// Clone makes a VM of an image and returns its UUID. Not idempotent: a
	// second call fails with ErrNameTaken.
	Clone(ctx context.Context, img Image, name string) (uuid string, err error)
	Configure(ctx context.Context, id string, o Options) error
	Start(ctx context.Context, id string, o StartOptions) error
	// Stop ends a VM; without force the guest may finish what it does. When it
	// returns nil the VM does not run.
	Stop(ctx context.Context, id string, force bool) error
	// Suspend keeps the guest's memory for a push. A hypervisor whose images hold
	// none returns ErrUnsupported.
	Suspend(ctx context.Context, id string) error
	// Delete removes a stopped VM for good.
	Delete(ctx context.Context, id string) error
	// Run runs a script in a running VM. A script that fails or times out is no
	// error. Not idempotent.
	Run(ctx context.Context, id string, s Script) (ScriptResult, error)
	// AttachUSB hands a device of the host to a running VM.
	AttachUSB(ctx context.Context, id, device string) error
}

// Placed is a Runtime that knows where it keeps images and VMs: they may be on
// another volume than the system.
type Placed interface {
	Dirs(ctx context.Context) ([]string, error)
}

// Cleaner is a Runtime that keeps what no image needs until it is asked to let go.
type Cleaner interface {
	// FreeCache deletes what interrupted pulls and removed images left.
	FreeCache(ctx context.Context) error
}

// Grower is a Runtime that leaves it to the guest to use a disk that was enlarged.
type Grower interface {
	// Grown returns an error if the guest's file system is not as large as the disk
	// that was asked for, or its size cannot be told.
	Grown(ctx context.Context, id string) error
}

// Needy is a Runtime whose VMs need more of the host than its command.
type Needy interface {
	Needs(ctx context.Context) []Need
}

// Need is something that VMs need of the host.
type Need struct {
	What string
	// Met is what was seen where it is well.
	Met string
	// Unmet is what is wrong, "" for nothing, and Advice what to do about it.
	Unmet, Advice string
	// Grave: no VM starts as long as it is so.
	Grave bool
}

// AtLeast compares a version such as 3.9.1 with a major and a minor number.
func AtLeast(version string, major, minor int) bool {
	a, rest, _ := strings.Cut(version, ".")
	b, _, _ := strings.Cut(rest, ".")
	x, err1 := strconv.Atoi(a)
	y, err2 := strconv.Atoi(b)
	return err1 == nil && err2 == nil && (x > major || x == major && y >= minor)
}
