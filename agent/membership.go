package agent

import (
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// membership is where the node stands with its cloud. It is safe for concurrent use.
type membership struct {
	mu  sync.Mutex
	now standing // guarded by mu
}

// standing is what the cloud last answered about the node, and when.
type standing struct {
	since     time.Time // the session's begin
	joined    bool      // registered at least once
	settings  controllerapi.NodeSettings
	cluster   controllerapi.Cluster
	lastSync  time.Time
	syncError string
	refused   string // why the cloud does not want the node
}

func (m *membership) get() standing {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

func (m *membership) change(edit func(*standing)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	edit(&m.now)
}
