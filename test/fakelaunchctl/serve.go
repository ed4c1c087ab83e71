package fakelaunchctl

import (
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"sync"
)

// Socket is where a launchd of that directory answers.
func Socket(dir string) string { return filepath.Join(dir, "launchd.sock") }

// Serve answers at Socket(Options.Dir) until stop is called.
func (l *Launchd) Serve() (stop func(), err error) {
	listener, err := net.Listen("unix", Socket(l.opts.Dir))
	if err != nil {
		return nil, err
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			serving.Go(func() {
				defer conn.Close()
				var args []string
				if json.NewDecoder(conn).Decode(&args) == nil {
					_ = json.NewEncoder(conn).Encode(l.Command(args...)) // who asked may be gone
				}
			})
		}
	})
	return func() {
		_ = listener.Close()
		serving.Wait()
	}, nil
}

// Ask asks the launchd of dir.
func Ask(dir string, args ...string) (Reply, error) {
	conn, err := net.Dial("unix", Socket(dir))
	if err != nil {
		return Reply{}, err
	}
	defer conn.Close()
	var r Reply
	return r, errors.Join(json.NewEncoder(conn).Encode(args), json.NewDecoder(conn).Decode(&r))
}
