package main

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi"
)

var (
	pushMiB  = flag.Int64("push.mib", 256, "size of the image that BenchmarkCopies pushes, in MiB")
	pushRate = flag.Int64("push.rate", 0, "MiB/s that its clients' line carries; 0: as fast as it goes")
	pushDirs = flag.String("push.dirs", "", "folder for the hosts' data; a tmpfs gives each host a disk of its own speed")
)

// line is a client's network: noise that repeats every MiB, at most so many bytes a
// second.
type line struct {
	block []byte
	left  int64
	seed  uint64
	rate  int64 // bytes/s; 0 has no limit
	began time.Time
	sent  int64
}

func newLine(seed uint64, size, rate int64) *line {
	l := &line{block: make([]byte, 1<<20), left: size, seed: seed, rate: rate, began: time.Now()}
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = src.Read(l.block)
	return l
}

func (l *line) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	at := l.sent % int64(len(l.block))
	n := copy(p, l.block[at:])
	n = int(min(int64(n), l.left))
	l.left -= int64(n)
	l.sent += int64(n)
	if l.rate > 0 {
		if ahead := time.Duration(l.sent*int64(time.Second)/l.rate) - time.Since(l.began); ahead > 0 {
			<-time.After(ahead)
		}
	}
	return n, nil
}

// drain takes what is pulled over a line of so many bytes a second.
type drain struct {
	rate, got int64
	began     time.Time
}

func (d *drain) Write(p []byte) (int, error) {
	d.got += int64(len(p))
	if d.rate > 0 {
		if ahead := time.Duration(d.got*int64(time.Second)/d.rate) - time.Since(d.began); ahead > 0 {
			<-time.After(ahead)
		}
	}
	return len(p), nil
}

// pushed is what a push of one large image took.
type pushed struct {
	digest      digest.Digest
	whole, last time.Duration // last: the answers to the closing PUT and to the manifest
}

// pushLarge pushes as `curl` would: POST, one PATCH, PUT, manifest.
func pushLarge(b *testing.B, base string, seed uint64, size, rate int64) (p pushed) {
	b.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, newLine(seed, size, 0)); err != nil {
		b.Fatal(err)
	}
	p.digest = digest.NewDigest(digest.SHA256, h)
	send := func(method, url string, body io.Reader, n int64, want int) *http.Response {
		req, err := http.NewRequest(method, url, body)
		if err != nil {
			b.Fatal(err)
		}
		req.ContentLength = n
		if method == http.MethodPut && n > 0 {
			req.Header.Set("Content-Type", ispec.MediaTypeImageManifest)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			b.Fatalf("%s %s: %s: %s", method, url, resp.Status, answer)
		}
		return resp
	}
	began := time.Now()
	at := send("POST", base+"/v2/large/blobs/uploads/", nil, 0, http.StatusAccepted).Header.Get("Location")
	at = send("PATCH", base+at, newLine(seed, size, rate), size, http.StatusAccepted).Header.Get("Location")
	sent := time.Now()
	send("PUT", base+at+"?digest="+p.digest.String(), nil, 0, http.StatusCreated)
	config := []byte(`{"name":"large"}`)
	d := digest.FromBytes(config)
	send("POST", base+"/v2/large/blobs/uploads/?digest="+d.String(), bytes.NewReader(config), int64(len(config)), http.StatusCreated)
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ispec.MediaTypeImageManifest, registryapi.MediaTypeVMConfig, d, len(config), registryapi.MediaTypeVMFile, p.digest, size)
	send("PUT", base+"/v2/large/manifests/v1", bytes.NewReader(raw), int64(len(raw)), http.StatusCreated)
	p.whole, p.last = time.Since(began), time.Since(sent)
	return p
}

// BenchmarkCopies measures a push of one large image to one of three hosts, with one
// copy and with two in turns, and a pull of what only another host has:
//
//	go test -run '^$' -bench Copies -benchtime 3x ./cmd/anka-controller -push.mib 4096 -push.dirs /dev/shm -push.rate 110
func BenchmarkCopies(b *testing.B) {
	if runtime.GOOS != "linux" {
		b.Skip("needs addresses of loopback that only Linux has without being told")
	}
	size := *pushMiB << 20
	rate := func(d time.Duration) float64 { return float64(*pushMiB) / d.Seconds() }
	var peak int64
	for n := range b.N {
		var one, two pushed
		for _, copies := range []int{1 + n%2, 2 - n%2} {
			dirs, err := os.MkdirTemp(*pushDirs, "copies")
			if err != nil {
				b.Fatal(err)
			}
			hosts := startHosts(b, dirs, "--registry-copies", strconv.Itoa(copies), "--registry-copies-strict")
			p := pushLarge(b, hosts[0].registry(), uint64(10*n+copies), size, *pushRate<<20)
			if copies == 1 {
				one = p
			} else {
				two = p
				pullElsewhere(b, hosts, p.digest, rate)
			}
			for _, h := range hosts {
				peak = max(peak, h.peak(b))
				h.kill()
			}
			if err := os.RemoveAll(dirs); err != nil {
				b.Fatal(err)
			}
		}
		b.Logf("push with one copy %.0f MiB/s, last answers %.2f s; with two %.0f MiB/s, %.2f s; ratio %.2f",
			rate(one.whole), one.last.Seconds(), rate(two.whole), two.last.Seconds(), one.whole.Seconds()/two.whole.Seconds())
	}
	b.ReportMetric(float64(peak)/1e6, "MB-peak")
}

// pullElsewhere empties the third host and pulls through it, then from the second.
func pullElsewhere(b *testing.B, hosts []*clusterHost, d digest.Digest, rate func(time.Duration) float64) {
	b.Helper()
	hosts[2].kill()
	if err := os.RemoveAll(hosts[2].dir); err != nil {
		b.Fatal(err)
	}
	hosts[2].start()
	hosts[2].answers()
	pull := func(h *clusterHost) time.Duration {
		began := time.Now()
		resp, err := http.Get(h.registry() + "/v2/large/blobs/" + d.String())
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(&drain{rate: *pushRate << 20, began: began}, resp.Body); err != nil || n != *pushMiB<<20 {
			b.Fatalf("%s: %s, %d bytes, %v", h.addr, resp.Status, n, err)
		}
		return time.Since(began)
	}
	through := pull(hosts[2])
	own := pull(hosts[1])
	b.Logf("pull through an empty host %.0f MiB/s, from one that has it %.0f MiB/s", rate(through), rate(own))
}

var vmHWM = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak is the most memory that the process had resident, in bytes.
func (h *clusterHost) peak(b *testing.B) int64 {
	b.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(h.cmd.Process.Pid), "status"))
	if err != nil {
		b.Fatal(err)
	}
	m := vmHWM.FindSubmatch(data)
	if m == nil {
		b.Fatalf("no VmHWM in %s", data)
	}
	kb, _ := strconv.ParseInt(string(m[1]), 10, 64)
	return kb << 10
}
