package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/ankacluster/ankacluster/internal/filelock"
)

// Claim is held by the one agent of a host that uses a hypervisor: each of two
// would take the other's VMs for its own. The kernel lets go of it when the
// process ends, however it ends.
type Claim struct{ f *os.File }

// Holder is the agent that holds a claim.
type Holder struct {
	PID int `json:"pid"`
	Dir Dir `json:"state_dir"`
}

// ErrClaimed: another agent of this host uses the hypervisor.
var ErrClaimed = errors.New("another agent runs on this host")

// ClaimHypervisor takes the claim on the hypervisor of cfg, or returns ErrClaimed.
// A claim is of a user, as VMs are: agents of two users do not see each other's.
func ClaimHypervisor(cfg Config, dir Dir) (*Claim, error) {
	path, err := claimFile(cfg)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		f.Close()
		if errors.Is(err, filelock.ErrLocked) {
			h, _ := HypervisorHolder(cfg)
			return nil, fmt.Errorf("%w (process %d, state directory %s): they would end each other's VMs", ErrClaimed, h.PID, h.Dir)
		}
		return nil, err
	}
	holder, err := json.Marshal(Holder{os.Getpid(), dir})
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(append(holder, '\n'), 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Claim{f}, nil
}

// Release lets go of it.
func (c *Claim) Release() { c.f.Close() }

// HypervisorHolder returns the agent that uses the hypervisor of cfg, and false
// when none does.
func HypervisorHolder(cfg Config) (Holder, bool) {
	path, err := claimFile(cfg)
	if err != nil {
		return Holder{}, false
	}
	f, err := os.Open(path)
	if err != nil {
		return Holder{}, false
	}
	defer f.Close()
	if filelock.TryRLock(f) == nil {
		return Holder{}, false // closing lets go
	}
	var h Holder
	_ = json.NewDecoder(f).Decode(&h) // empty for the moment between lock and write
	return h, true
}

// claimFile is the same for all agents of a user that call the same command for
// the same VMs.
func claimFile(cfg Config) (string, error) {
	key := cfg.Runtime + "\n" + cfg.AnkaPath
	if cfg.Runtime == RuntimeTart {
		key = cfg.Runtime + "\n" + cfg.TartHome
	}
	sum := sha256.Sum256([]byte(strconv.Itoa(os.Geteuid()) + "\n" + key))
	dir := "/var/run"
	if os.Geteuid() != 0 {
		var err error
		if dir, err = os.UserCacheDir(); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "ankacluster", "hypervisor-"+hex.EncodeToString(sum[:8])+".lock"), nil
}
