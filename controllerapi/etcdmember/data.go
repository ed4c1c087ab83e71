package etcdmember

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// Where etcd keeps things below its data directory.
func memberDir(dir string) string { return filepath.Join(dir, "member") }
func walDir(dir string) string    { return filepath.Join(dir, "member", "wal") }
func dbFile(dir string) string    { return filepath.Join(dir, "member", "snap", "db") }

// errUnfinished is a data directory whose member never took part in anything.
var errUnfinished = errors.New("the member was never started")

// readLocal reads what the data directory says about the cluster it belongs to,
// without starting anything.
func readLocal(dir string) (Local, error) {
	local := Local{Dir: dir}
	if !wal.Exist(walDir(dir)) {
		return local, nil
	}
	meta, err := readWALMetadata(dir)
	if errors.Is(err, errUnfinished) {
		return local, nil
	}
	if err != nil {
		return local, fmt.Errorf("read the log in %s: %w", walDir(dir), err)
	}
	local.HasData = true
	local.MemberID = meta.GetNodeID()
	local.Cluster.ID = meta.GetClusterID()
	local.Cluster.Members, err = readMembers(dbFile(dir))
	return local, err
}

func readWALMetadata(dir string) (*etcdserverpb.Metadata, error) {
	snaps, err := wal.ValidSnapshotEntries(zap.NewNop(), walDir(dir))
	if err != nil {
		return nil, err
	}
	at := &walpb.Snapshot{}
	if len(snaps) > 0 {
		at = snaps[len(snaps)-1]
	}
	w, err := wal.OpenForRead(zap.NewNop(), walDir(dir), at)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	raw, state, entries, err := w.ReadAll()
	// The last entry may be torn after a power cut; etcd repairs that at its start.
	if raw == nil {
		return nil, err
	}
	// A process that dies between the creation of the log and its first record
	// leaves a log without any entry, with which etcd would wait for ever.
	if err == nil && len(entries) == 0 && state.GetCommit() == 0 && at.GetIndex() == 0 {
		return nil, errUnfinished
	}
	meta := &etcdserverpb.Metadata{}
	if err := proto.Unmarshal(raw, meta); err != nil {
		return nil, err
	}
	return meta, nil
}

// readMembers reads the list of members from the database file.
func readMembers(file string) ([]ClusterMember, error) {
	if _, err := os.Stat(file); err != nil {
		return nil, nil // a log without a database: nothing was ever applied
	}
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s is in use by another process: is a controller running with this --data-dir?", file)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	defer db.Close()
	var members []ClusterMember
	err = db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("members"))
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, v []byte) error {
			var m memberJSON
			if err := json.Unmarshal(v, &m); err != nil {
				return fmt.Errorf("%s: member entry: %w", file, err)
			}
			members = append(members, m.member())
			return nil
		})
	})
	return members, err
}

// clearUnfinished moves what an interrupted first start has left out of the way.
// It is moved, not removed: only a person may delete a database.
func clearUnfinished(dir string) error {
	if _, err := os.Stat(memberDir(dir)); err != nil {
		return nil
	}
	aside := filepath.Join(dir, "unfinished-"+time.Now().UTC().Format("20060102T150405.000"))
	return os.Rename(memberDir(dir), aside)
}
