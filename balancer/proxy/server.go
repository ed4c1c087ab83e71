package proxy

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/serve"
)

// Server serves a handler on a listener until its context ends, and then lets
// running requests finish for Grace.
type Server struct {
	Listener net.Listener
	Handler  http.Handler
	// Grace bounds how long running requests may take after the end; 0 is 10 s.
	Grace time.Duration
	Log   *zap.Logger
}

// Run serves; nil means that it stopped as asked and nothing was cut off.
func (s *Server) Run(ctx context.Context) error {
	log := s.Log
	if log == nil {
		log = zap.NewNop()
	}
	srv := serve.New(serve.Options{Handler: s.Handler, Idle: 2 * time.Minute, ErrorLog: zap.NewStdLog(log.Named("http")), Warn: func(text string) { log.Warn(text) }})
	return serve.Run(ctx, srv, s.Listener, serve.Drain{Grace: cmp.Or(s.Grace, 10*time.Second)})
}
