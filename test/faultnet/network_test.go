package faultnet

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// serve answers "hello" at a:80 until the returned function is called.
func serve(t *testing.T, n *Network) (client *http.Client, stop func()) {
	t.Helper()
	ln, err := n.Listen("a:80")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })}
	go srv.Serve(ln)
	tr := &http.Transport{DialContext: n.DialContext}
	return &http.Client{Transport: tr}, func() {
		tr.CloseIdleConnections()
		srv.Close()
	}
}

func get(c *http.Client, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://a:80/", nil)
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return string(data), err
}

func TestFaultsReachNewAndOldConnections(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault Fault
		warm  bool // a connection exists when the fault begins
		want  error
	}{
		{"none", Fault{}, false, nil},
		{"refuse", Fault{Refuse: true}, false, syscall.ECONNREFUSED},
		{"refuse leaves old connections", Fault{Refuse: true}, true, nil},
		{"unreachable", Fault{Dial: syscall.EHOSTUNREACH}, false, syscall.EHOSTUNREACH},
		{"hold a connect", Fault{Hold: true}, false, context.DeadlineExceeded},
		{"hold bytes", Fault{Hold: true}, true, context.DeadlineExceeded},
		{"delay within the deadline", Fault{Delay: time.Second}, true, nil},
		{"delay beyond the deadline", Fault{Delay: 3 * time.Second}, true, context.DeadlineExceeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := New()
				client, stop := serve(t, n)
				defer stop()
				if test.warm {
					if got, err := get(client, time.Second); err != nil || got != "hello" {
						t.Fatalf("before the fault: %q, %v", got, err)
					}
				}
				n.Set("a:80", test.fault)
				got, err := get(client, 5*time.Second)
				if !errors.Is(err, test.want) || (err == nil) != (got == "hello") {
					t.Errorf("got %q, %v, want error %v", got, err, test.want)
				}
				n.Heal("a:80")
				if got, err := get(client, 5*time.Second); err != nil || got != "hello" {
					t.Errorf("after healing: %q, %v", got, err)
				}
			})
		})
	}
}

func TestHeldBytesArriveWhenHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		client, stop := serve(t, n)
		defer stop()
		get(client, time.Second)
		n.Set("a:80", Fault{Hold: true})
		time.AfterFunc(10*time.Second, func() { n.Heal("a:80") })
		start := time.Now()
		if got, err := get(client, time.Minute); err != nil || got != "hello" || time.Since(start) != 10*time.Second {
			t.Errorf("got %q, %v after %s, want hello after 10s", got, err, time.Since(start))
		}
	})
}

func TestResetHalfCloseAndDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		ln, _ := n.Listen("a:80")
		defer ln.Close()
		go func() {
			for {
				if _, err := ln.Accept(); err != nil {
					return
				}
			}
		}()
		dial := func() (c interface {
			io.ReadWriteCloser
			SetReadDeadline(time.Time) error
		}) {
			conn, err := n.DialContext(context.Background(), "tcp", "a:80")
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		buf := make([]byte, 1)
		c := dial()
		n.Reset("a:80")
		if _, err := c.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after Reset: %v", err)
		}
		c.Close()
		c = dial()
		n.HalfClose("a:80")
		if _, err := c.Read(buf); err != io.EOF {
			t.Errorf("after HalfClose a read gives %v, want EOF", err)
		}
		if _, err := c.Write(buf); err != nil {
			t.Errorf("after HalfClose a write gives %v, want none", err)
		}
		c.Close()
		c = dial()
		c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after the deadline: %v", err)
		}
		c.Close()
		if open := n.Open("a:80"); open != 0 {
			t.Errorf("%d connections are left", open)
		}
	})
}
