package drill

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill/process"
)

// FakeMain runs one of the fakes until it is told to stop, its standard input
// ends, or ctx does. args start with the kind: "backend" or "memory".
func FakeMain(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) == 0 {
		return errors.New("this command is for the drill's own use")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var (
		listen  = flags.String("listen", "127.0.0.1:0", "address")
		name    = flags.String("name", "", "name of the backend")
		socket  = flags.String("memory", "", "socket of the memory")
		drain   = flags.Duration("drain", 0, "time between failing readiness and closing")
		blob    = flags.String("blob", "", "file served as the blob")
		digest  = flags.String("digest", "", "digest of the blob")
		rate    = flags.Int64("blob-rate", 0, "bytes a second of one download; 0 is no limit")
		counter = flags.String("counter", "", "file in which sent bytes are counted")
	)
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "memory":
		ln, err := net.Listen("unix", *socket)
		if err != nil {
			return err
		}
		return serveFake(ctx, ln, newMemory().handler(), fakeHooks{}, stdin, stdout)
	case "backend":
		ln, err := listenAgain(*listen)
		if err != nil {
			return err
		}
		b := &backend{name: *name, memory: newMemoryClient(*socket)}
		b.behave.Store(&behaviour{})
		if *blob != "" {
			b.blob = &blobFile{path: *blob, digest: *digest, rate: *rate, counter: *counter}
		}
		hooks := fakeHooks{
			order:     func(o behaviour) { b.behave.Store(&o) },
			terminate: func() { b.draining.Store(true) },
			drain:     *drain,
		}
		return serveFake(ctx, ln, b.handler(), hooks, stdin, stdout)
	}
	return fmt.Errorf("unknown kind of fake %q", args[0])
}

// listenAgain takes the address of a backend that was killed. Its port may be in
// the range for outgoing connections, and one of those may hold it for a moment.
func listenAgain(addr string) (net.Listener, error) {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		ln, err := net.Listen("tcp", addr)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			return ln, err
		}
	}
}

// fakeHooks is what a fake does with orders and on SIGTERM.
type fakeHooks struct {
	order     func(behaviour)
	terminate func()
	drain     time.Duration
}

// serveFake announces the address, serves, obeys the orders that arrive on
// stdin, and leaves politely on SIGTERM: readiness first, then the listener.
func serveFake(ctx context.Context, ln net.Listener, h http.Handler, hooks fakeHooks, stdin io.Reader, stdout io.Writer) error {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	defer signal.Stop(term)
	signal.Ignore(os.Interrupt) // the terminal sends it to the whole group; the drill cleans up

	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	if err := json.NewEncoder(stdout).Encode(process.Greeting{Addr: ln.Addr().String()}); err != nil {
		return err
	}

	orphaned := make(chan struct{})
	go func() {
		defer close(orphaned)
		lines := bufio.NewScanner(stdin)
		for lines.Scan() {
			var o behaviour
			if json.Unmarshal(lines.Bytes(), &o) == nil && hooks.order != nil {
				hooks.order(o)
			}
			fmt.Fprintln(stdout, "{}") // the order is in force
		}
	}()

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
		return srv.Close()
	case <-orphaned:
		return srv.Close()
	case <-term:
	}
	if hooks.terminate != nil {
		hooks.terminate()
	}
	time.Sleep(hooks.drain)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return srv.Shutdown(grace)
}

// backend is a fake controller and registry in one.
type backend struct {
	name     string
	memory   *memoryClient
	behave   atomic.Pointer[behaviour]
	calls    atomic.Int64
	draining atomic.Bool
	blob     *blobFile
}

func (b *backend) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathReady, b.ready)
	mux.HandleFunc("GET "+pathCall, b.call)
	mux.HandleFunc("POST "+pathCall, b.call)
	mux.HandleFunc("GET "+pathBlob+"{digest}", b.download)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(headerBackend, b.name)
		mux.ServeHTTP(w, r)
	})
}

func (b *backend) ready(w http.ResponseWriter, r *http.Request) {
	how := b.behave.Load()
	switch {
	case b.draining.Load():
		w.WriteHeader(http.StatusServiceUnavailable)
	case how.Ready:
	case how.Reset != "":
		resetConnection(w)
	default:
		wait(r.Context(), how.Delay)
		if how.Status != 0 {
			w.WriteHeader(how.Status)
		}
	}
}

// filler makes an answer as long as a short list of instances, so that half of
// it is something to lose.
var filler = strings.Repeat("0123456789abcdef", 128)

// behaviourTo is how this request is answered.
func (b *backend) behaviourTo(r *http.Request) behaviour {
	how := *b.behave.Load()
	if n := b.calls.Add(1); how.Posts && r.Method != http.MethodPost || how.Every > 0 && n%how.Every != 0 {
		return behaviour{}
	}
	return how
}

func (b *backend) call(w http.ResponseWriter, r *http.Request) {
	how := b.behaviourTo(r)
	if how.Status != 0 {
		wait(r.Context(), how.Delay)
		http.Error(w, "told to", how.Status)
		return
	}
	out := answer{Status: "OK", Request: r.Header.Get(headerRequest), Backend: b.name}
	if r.Method == http.MethodPost {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return // half a request runs nothing
		}
		// Once read, a write runs, also if its caller has gone away meanwhile.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 10*time.Second)
		defer cancel()
		_, err := b.memory.apply(ctx, application{Key: r.Header.Get(headerKey), Request: out.Request, Backend: b.name})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	} else {
		out.Filler = filler
	}
	wait(r.Context(), how.Delay)
	if how.Hang {
		<-r.Context().Done()
		return
	}
	body, err := json.Marshal(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if how.Endless != "" {
		sendEndless(w, r, body, how.Endless)
		return
	}
	if n, err := strconv.Atoi(r.Header.Get(headerSize)); err == nil && n > 0 && n < 4<<20 {
		body = sized(out.Request, n)
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("ETag", `"`+out.Request+`"`)
		if r.Method == http.MethodGet && how.Reset == "" {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body)) // ranges, so that it can be continued
			return
		}
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	switch how.Reset {
	case resetBeforeBody:
		resetConnection(w)
	case resetMidBody:
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		time.Sleep(5 * time.Millisecond) // let the half arrive: a reset overtakes what is still queued
		resetConnection(w)
	default:
		_, _ = w.Write(body)
	}
}

// sendEndless sends an answer that begins well and does not end.
func sendEndless(w http.ResponseWriter, r *http.Request, body []byte, how endless) {
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	for how == endlessBytes {
		if _, err := w.Write(pattern()[:32<<10]); err != nil {
			return
		}
		time.Sleep(time.Millisecond) // the other fakes share the processors
	}
	<-r.Context().Done()
}

// resetConnection ends the connection with RST, as a crashed peer's kernel does.
func resetConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
