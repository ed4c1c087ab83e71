package balancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
)

// cacheFile is the learned member list on disk. It is tied to a cloud: a
// machine that moved to another one must not talk to the old.
type cacheFile struct {
	CloudID   string    `json:"cloud_id"`
	Pool      string    `json:"pool"`
	Endpoints []string  `json:"endpoints"`
	Saved     time.Time `json:"saved"`
}

// loadCache brings in the list of the last run, if it is whole and of this
// cloud. Whatever is wrong with it, the balancer starts.
func (b *Balancer) loadCache() {
	if b.cfg.Cache.Path == "" {
		return
	}
	urls, err := readCache(b.cfg.Cache, b.cfg.Name)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		err = b.SetMembers(OriginCached, urls)
	}
	if err != nil {
		b.log.Warn("cached endpoints ignored", zap.String("path", b.cfg.Cache.Path), zap.Error(err))
	}
}

func readCache(cfg CacheConfig, pool string) ([]string, error) {
	data, err := os.ReadFile(cfg.Path)
	if err != nil {
		return nil, err
	}
	var file cacheFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("endpoint cache: %w", err)
	}
	if file.CloudID != cfg.CloudID || file.Pool != pool {
		return nil, fmt.Errorf("endpoint cache is of cloud %q, pool %q", file.CloudID, file.Pool)
	}
	if len(file.Endpoints) == 0 {
		return nil, fmt.Errorf("endpoint cache: %w", ErrEmptyList)
	}
	return file.Endpoints, nil
}

// keepCache writes the learned list each time that it changed, until ctx ends. It
// has a goroutine of its own: a disk that hangs must not stop the probes.
func (b *Balancer) keepCache(ctx context.Context) {
	if b.cfg.Cache.Path == "" {
		return
	}
	for {
		select {
		case <-b.learned:
			b.saveCache()
		case <-ctx.Done():
			select {
			case <-b.learned: // at the last moment
				b.saveCache()
			default:
			}
			return
		}
	}
}

// saveCache writes the learned list. A disk that cannot be written is logged and
// asked again with the next change.
func (b *Balancer) saveCache() {
	b.mu.Lock()
	file := cacheFile{CloudID: b.cfg.Cache.CloudID, Pool: b.cfg.Name, Endpoints: b.members[OriginLearned], Saved: time.Now().UTC()}
	b.mu.Unlock()
	if err := writeCache(b.cfg.Cache.Path, file); err != nil {
		b.log.Warn("endpoint cache not written", zap.String("path", b.cfg.Cache.Path), zap.Error(err))
	}
}

// writeCache leaves the old file or the new one, whenever it is interrupted.
func writeCache(path string, file cacheFile) error {
	data, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Options{Temp: filepath.Base(path) + ".tmp-*"}.Write(path, append(data, '\n'))
}
