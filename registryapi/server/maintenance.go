package server

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// care keeps the store in order until ctx ends: the index fresh, changes told
// that a dead process did not tell, garbage and stale uploads removed, logs
// rotated. Every server of a directory does it; locks keep them apart.
func (s *Server) care(ctx context.Context) error {
	defer s.catalog.close()
	s.tidyIndex(ctx)
	index := newTicker(s.cfg.ListCacheTTL)
	defer index.Stop()
	// Dead uploads and changes that were not told are looked for even where
	// the collector is off.
	garbage := newTicker(s.cfg.GCInterval)
	defer garbage.Stop()
	housekeeping := time.NewTicker(10 * time.Minute)
	defer housekeeping.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-index.C:
			s.tidyIndex(ctx)
		case <-garbage.C:
			s.collect(ctx)
		case <-housekeeping.C:
			s.dropEmpty(ctx, time.Now())
			s.housekeep(time.Now())
		}
	}
}

// newTicker is a ticker, or one that never ticks when the interval is 0.
func newTicker(d time.Duration) *time.Ticker {
	if d > 0 {
		return time.NewTicker(d)
	}
	t := time.NewTicker(time.Hour)
	t.Stop()
	return t
}

func (s *Server) tidyIndex(ctx context.Context) {
	if n, err := s.store.Settle(); err != nil {
		s.log.Warn("changes of a dead process could not be told", zap.Error(err))
	} else if n > 0 {
		s.log.Info("told changes of a process that died", zap.Int("changes", n))
	}
	if err := s.catalog.scan(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("index could not be refreshed", zap.Error(err))
	}
}

func (s *Server) collect(ctx context.Context) {
	start := time.Now()
	opt := content.CollectOptions{Grace: s.cfg.GCGrace, KeepUntagged: s.cfg.KeepUntagged}
	if s.shared != nil {
		var err error
		if opt, err = s.shared.Collect(ctx, opt); err != nil {
			s.log.Info("garbage not collected now", zap.Error(err))
			return
		}
	}
	got, err := s.store.Collect(ctx, opt)
	switch {
	case errors.Is(err, content.ErrCollecting), errors.Is(err, content.ErrReadOnly), ctx.Err() != nil:
		return
	case err != nil: // of a part; the rest was collected
		s.log.Error("garbage collection failed", zap.Error(err))
	}
	s.metrics.collected(got)
	if got != (content.Collected{}) {
		s.log.Info("garbage collected", zap.Int("blobs", got.Blobs), zap.Int64("bytes", got.Bytes), zap.Int("links", got.Links),
			zap.Int("manifests", got.Manifests), zap.Duration("duration", time.Since(start)))
	}
}

// housekeep removes uploads nobody went on with, counts what is stored, and
// looks after the logs.
func (s *Server) housekeep(now time.Time) {
	if s.cfg.UploadExpiry > 0 {
		n, err := s.store.PurgeUploads(now.Add(-s.cfg.UploadExpiry))
		if err != nil {
			s.log.Warn("stale uploads could not be removed", zap.Error(err))
		}
		if n > 0 {
			s.log.Info("stale uploads removed", zap.Int("uploads", n))
		}
	}
	if _, err := s.store.CountUsage(); err != nil {
		s.log.Warn("stored bytes could not be counted", zap.Error(err))
	}
	s.logs.tidy(now)
}
