// Package socket is the status socket, by which commands ask an agent or a proxy that
// runs on the host.
package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/internal/ownership"
	serving "github.com/ankacluster/ankacluster/internal/serve"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// socketLook is how often the socket and the lock are looked for.
const socketLook = 10 * time.Second

// Serve answers on the status socket until ctx ends. Only the owner may
// connect.
// A socket that was removed is made again, and so is the lock: without them the agent
// cannot be found, to ask it or to stop it. The error is ErrRunning when
// another agent took the lock meanwhile. lock is nil where there is none.
func Serve(ctx context.Context, path string, lock *state.Lock, routes []wire.Route) error {
	look := time.NewTicker(socketLook)
	defer look.Stop()
	return serve(ctx, path, lock, routes, look.C)
}

func serve(ctx context.Context, path string, lock *state.Lock, routes []wire.Route, look <-chan time.Time) error {
	mux := (&wire.API{Log: zap.NewNop()}).Mux(routes)
	for {
		l, err := listen(path)
		if err != nil {
			return fmt.Errorf("status socket: %w", err)
		}
		srv, l := serving.New(serving.Options{Handler: mux}), serving.Listen(l)
		served := make(chan error, 1) // one result, so that the goroutine never waits
		go func() { served <- srv.Serve(l) }()
		err = attend(ctx, path, lock, look, served)
		srv.Close()
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// Answer returns the handler of a question to the status socket: what answer
// returns, in JSON for people.
func Answer(answer func() any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(answer()) // the reader went away
	})
}

func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := ownership.Folder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	// A killed agent leaves its socket behind; the lock shows that it is gone.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// Changed after it was bound, it would be open for a moment, and what is at the
	// path then may be another file. Meanwhile no file of ours is made too open.
	before := syscall.Umask(0o077)
	defer syscall.Umask(before)
	return net.Listen("unix", path)
}

// attend returns when the socket has gone, or ctx has ended.
func attend(ctx context.Context, path string, lock *state.Lock, look <-chan time.Time, served <-chan error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return fmt.Errorf("status socket: %w", err)
		case <-look:
			if lock != nil {
				if err := lock.Keep(); err != nil {
					return err
				}
			}
			if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
				return nil
			}
		}
	}
}

// Ask asks the agent that listens on a socket. The error is ErrNotRunning
// when none does.
func Ask[T any](ctx context.Context, path, route string, answer *T) error {
	return call(ctx, path, true, wire.Request{Method: http.MethodGet, Path: route}, answer)
}

// Tell has the agent that listens on a socket do what body says. The error holds the
// code with which the agent refuses, and is ErrNotRunning when none listens.
func Tell[T any](ctx context.Context, path, route string, body any, answer *T) error {
	return call(ctx, path, false, wire.Request{Method: http.MethodPost, Path: route, Body: body}, answer)
}

// call makes a call, whose answer has an envelope unless it is plain.
func call[T any](ctx context.Context, path string, plain bool, req wire.Request, answer *T) error {
	client := wire.Client{Base: "http://agent", Server: "agent", Plain: plain, HTTP: &http.Client{CheckRedirect: wire.NoRedirect, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}
	got, err := wire.Call[T](ctx, &client, req)
	if err == nil {
		*answer = got
		return nil
	}
	if refused, ok := wire.Answered(err, client.Server); ok && refused.Status != http.StatusOK {
		if plain || errors.Is(refused, wire.CodeForeign) { // no such call
			return fmt.Errorf("the agent does not know %s: it is of another version", req.Path)
		}
		return &wire.Error{Status: refused.Status, Code: refused.Code, Message: refused.Message}
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("the agent's socket %s belongs to another user: use sudo", path)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return ErrNotRunning
	}
	return err
}

// ErrNotRunning: no agent answers.
var ErrNotRunning = errors.New("the agent is not running")
