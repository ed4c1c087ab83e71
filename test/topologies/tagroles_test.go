package topologies

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
	taghistory "github.com/ankacluster/ankacluster/test/history/tags"
)

// What this test's executable is on a host, by the variable that says so.
const (
	listsVar = "ANKA_TEST_READ_LISTS" // TEMPLATE,URL,URL: reads lists until SIGTERM
	tagsVar  = "ANKA_TEST_TAGS"       // URL: changes and reads tags until SIGTERM
)

func init() {
	roles[listsVar], roles[tagsVar] = readLists, changeTags
}

// lines writes JSON lines from several goroutines.
type lines struct {
	mu  sync.Mutex
	out *json.Encoder // guarded by mu
}

func (l *lines) tell(v any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.out.Encode(v) // stdout is the test's pipe
}

func untilStopped() (context.Context, func(), *lines) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	return ctx, stop, &lines{out: json.NewEncoder(os.Stdout)}
}

// readLists reads lists at each controller without pause. It tells each list that
// lacks the template, and at the end how many had it.
func readLists() int {
	ctx, stop, out := untilStopped()
	defer stop()
	template, urls, _ := strings.Cut(os.Getenv(listsVar), ",")
	var wg sync.WaitGroup
	var mu sync.Mutex
	good := 0
	for url := range strings.SplitSeq(urls, ",") {
		wg.Go(func() {
			client := registryapi.NewClientOfController(url, &http.Client{Timeout: callPatience})
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
				list, err := client.Templates(ctx)
				if err != nil {
					continue // the controller is dead, or etcd has no leader: that is no list
				}
				there := false
				for _, t := range list {
					there = there || t.ID == template
				}
				if !there {
					out.tell(event{Kind: "a list without the template", At: time.Now(), Err: url})
					continue
				}
				mu.Lock()
				good++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	out.tell(event{Kind: "lists", ID: strconv.Itoa(good)})
	return 0
}

// changeTags pushes, deletes, reverts and reads two tags of some repositories.
func changeTags() int {
	ctx, stop, out := untilStopped()
	defer stop()
	base := os.Getenv(tagsVar)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				r := rand.IntN(4)
				op := taghistory.Op{Kind: taghistory.Read, Repo: fmt.Sprintf("proof/r%d", r), Tag: []string{"s", "t"}[rand.IntN(2)]}
				switch n := rand.IntN(20); {
				case n < 8:
					op.Kind = taghistory.Put
				case n < 11:
					op.Kind = taghistory.Delete
				case n < 13:
					op.Kind = taghistory.Revert
				}
				out.tell(operate(base, op, proofID(r)))
			}
		})
	}
	wg.Wait()
	return 0
}

// proofID is the id that the r-th repository gets from the VM in it.
func proofID(r int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", r+1) }

// operate does one operation, once: a repeat would be another one.
func operate(base string, op taghistory.Op, id string) taghistory.Op {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	send := func(method, path, kind string, body []byte) (*http.Response, string, error) {
		req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
		if err != nil {
			return nil, "", err
		}
		req.GetBody = nil
		req.Header.Set("Content-Type", kind)
		req.Header.Set("Accept", ocispec.MediaTypeImageManifest)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp, string(text), err
	}
	var raw []byte
	if op.Kind == taghistory.Put {
		blob := []byte(fmt.Sprintf(`{"name":"proof","uuid":"%s","n":%d}`, id, rand.Uint64()))
		d := digest.FromBytes(blob)
		c, err := transfer.New(transfer.Config{Base: base, Attempts: 2})
		if err == nil {
			err = c.Upload(ctx, op.Repo, ocispec.Descriptor{Digest: d, Size: int64(len(blob))}, bytes.NewReader(blob))
		}
		if err != nil { // no tag was touched
			return taghistory.Op{Kind: taghistory.Read, Repo: op.Repo, Tag: op.Tag, Err: err.Error()}
		}
		desc := fmt.Sprintf(`{"mediaType":"application/octet-stream","digest":"%s","size":%d}`, d, len(blob))
		raw = []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":` + desc + `,"layers":[` + desc + `]}`)
		op.Digest = digest.FromBytes(raw).String()
	}
	op.Call = time.Now().UnixNano()
	path := "/v2/" + op.Repo + "/manifests/" + op.Tag
	var resp *http.Response
	var text string
	var err error
	switch op.Kind {
	case taghistory.Put:
		resp, _, err = send(http.MethodPut, path, ocispec.MediaTypeImageManifest, raw)
		op.OK = err == nil && resp.StatusCode == http.StatusCreated
	case taghistory.Delete:
		resp, _, err = send(http.MethodDelete, path, "", nil)
		op.Absent = err == nil && resp.StatusCode == http.StatusNotFound
		op.OK = op.Absent || err == nil && resp.StatusCode == http.StatusAccepted
	case taghistory.Revert:
		resp, text, err = send(http.MethodDelete, "/registry/revert?id="+id+"&tag="+op.Tag, "", nil)
		op.Absent = err == nil && (strings.Contains(text, "No such tag") || strings.Contains(text, "VM not in the registry"))
		op.OK = op.Absent || err == nil && strings.Contains(text, `"OK"`)
	default:
		resp, _, err = send(http.MethodGet, path, "", nil)
		if err == nil && resp.StatusCode == http.StatusOK {
			op.OK, op.Digest = true, resp.Header.Get("Docker-Content-Digest")
		}
		op.OK = op.OK || err == nil && resp.StatusCode == http.StatusNotFound
	}
	op.Ret = time.Now().UnixNano()
	switch {
	case err != nil:
		op.Err = err.Error()
	case !op.OK:
		op.Err = resp.Status
	}
	return op
}
