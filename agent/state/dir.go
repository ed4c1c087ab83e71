// Package state is what outlives the process of an agent: the state directory with the
// node's identity, join's settings and the known servers, and the locks by which one
// agent keeps others off its directory and its hypervisor. Commands read it without an
// agent.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/atomicfile"
)

// Dir is the agent's state directory:
//
//	node.json      the node's identity; outlives disjoin and reinstall
//	join.json      Config as join was given it; its absence means "not joined"
//	cluster.json   the servers that the cloud announced last
//	drained.json   the servers that a person has drained, and since when
//	images.json    which images the agent pulled, and when each was last used
//	journal/       one file for each task that is not over
//	run/           lock, socket, notes of commands that run, output of VMs that are processes
//	logs/          agent.log, commands.log
//
// Every file is written whole or not at all, and directories that went missing
// are made again.
type Dir string

// ErrNotJoined: the node was not joined, or was disjoined.
var ErrNotJoined = errors.New("this node has not joined a cloud")

func (d Dir) path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// LogDir holds the agent's logs.
func (d Dir) LogDir() string { return d.path("logs") }

// LogFile is the agent's own log.
func (d Dir) LogFile() string { return d.path("logs", "agent.log") }

// CommandLogFile has a line for each command of the hypervisor.
func (d Dir) CommandLogFile() string { return d.path("logs", "commands.log") }

// CommandNotes is where running commands are noted.
func (d Dir) CommandNotes() string { return d.path("run", "commands") }

// VMOutput is where a hypervisor whose VMs are processes keeps what they print.
func (d Dir) VMOutput() string { return d.path("run", "vms") }

// JournalDir has a file for each task that is not over.
func (d Dir) JournalDir() string { return d.path("journal") }

// ImagesFile is the ledger of the images that the agent pulled.
func (d Dir) ImagesFile() string { return d.path("images.json") }

// OpenRecords returns how many instances and tasks the node has a record of.
func (d Dir) OpenRecords() int {
	files, _ := filepath.Glob(filepath.Join(d.JournalDir(), "*.json")) // no directory, no records
	return len(files)
}

// ClusterFile is the last list of servers that the cloud announced.
func (d Dir) ClusterFile() string { return d.path("cluster.json") }

// Make makes the directory with all that is below it.
func (d Dir) Make() error {
	for _, sub := range []string{"journal", "run/commands", "logs"} {
		if err := os.MkdirAll(d.path(sub), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// identity is the node's id, and since when it has it. It never changes (A6).
type identity struct {
	NodeID  controllerapi.NodeID `json:"node_id"`
	Created time.Time            `json:"created"`
}

// Identity returns the node's id, and makes one when there is none. A non-empty
// want replaces it, which only join does.
func (d Dir) Identity(want controllerapi.NodeID) (controllerapi.NodeID, error) {
	var id identity
	err := ReadJSON(d.path("node.json"), &id)
	if err == nil && id.NodeID == "" {
		err = fmt.Errorf("%s: no node_id in it", d.path("node.json"))
	}
	switch {
	case err == nil && (want == "" || want == id.NodeID):
		return id.NodeID, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist) && want == "":
		// A new id would make the cloud see two nodes; a person must decide.
		return "", fmt.Errorf("the node's identity cannot be read: %w; pass --node-id to set it", err)
	}
	id = identity{NodeID: want, Created: time.Now().UTC()}
	if want == "" {
		id.NodeID = controllerapi.NodeID(uuid.NewString())
	}
	return id.NodeID, WriteJSON(d.path("node.json"), id)
}

// Config returns what join stored, or ErrNotJoined. Fields that an older join
// did not know have their defaults.
func (d Dir) Config() (Config, error) {
	c := DefaultConfig()
	err := ReadJSON(d.path("join.json"), &c)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, ErrNotJoined
	}
	return c, err
}

// AnkaImages is the file of the ids that anka has given images.
func (d Dir) AnkaImages() string { return d.path("anka-images.json") }

// SaveConfig stores what join was given.
func (d Dir) SaveConfig(c Config) error { return WriteJSON(d.path("join.json"), c) }

// ForgetCluster removes the announced servers, which may be another cloud's.
func (d Dir) ForgetCluster() error {
	if err := os.Remove(d.ClusterFile()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Cluster returns the last announced servers; the zero value when none are
// known or the file is damaged: the join list then has to do.
func (d Dir) Cluster() controllerapi.Cluster {
	var c controllerapi.Cluster
	if ReadJSON(d.ClusterFile(), &c) != nil {
		return controllerapi.Cluster{}
	}
	return c
}

// SaveCluster stores the announced servers.
func (d Dir) SaveCluster(c controllerapi.Cluster) error { return WriteJSON(d.ClusterFile(), c) }

func (d Dir) drainedFile() string { return d.path("drained.json") }

// Drained returns the servers that a person has drained, by their URLs, and since when.
func (d Dir) Drained() (map[string]time.Time, error) {
	var since map[string]time.Time
	err := ReadJSON(d.drainedFile(), &since)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return since, err
}

// SaveDrained stores the servers that a person has drained.
func (d Dir) SaveDrained(since map[string]time.Time) error {
	if len(since) == 0 {
		if err := os.Remove(d.drainedFile()); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return WriteJSON(d.drainedFile(), since)
}

// Session returns the id of the agent's last session, "" when there was none.
func (d Dir) Session() string {
	data, err := os.ReadFile(d.path("run", "session"))
	if err != nil {
		return ""
	}
	return string(data)
}

// SaveSession stores the id of the session that begins: disjoin may have to speak for
// it when the agent cannot.
func (d Dir) SaveSession(session string) error {
	return atomicfile.Options{}.Write(d.path("run", "session"), []byte(session))
}

// Forget removes what a join left, but for the identity, the logs, and the list
// of images: they stay on the node, and a later join shall know them as ours.
func (d Dir) Forget() error {
	var errs []error
	for _, name := range []string{"join.json", "cluster.json", "drained.json", "journal", "run"} {
		errs = append(errs, os.RemoveAll(d.path(name)))
	}
	return errors.Join(errs...)
}

// ReadJSON reads a file of the directory into v.
func ReadJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// TempPrefix begins the names of files whose write a crash may have cut short.
const TempPrefix = ".new-"

// WriteJSON replaces a file with v in one step that survives a crash at any
// moment: the old file or the new, never half of one.
func WriteJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.Options{Temp: TempPrefix + "*"}.Write(path, data) // 0600: settings hold secrets
}
