package proxy

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"
)

// An endpoint may answer while it still takes the body: neither direction may end
// or lose anything because the other one has begun or ended.
func TestAnswerAndBodyPassAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := backend(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		buf := make([]byte, 64<<10)
		for {
			n, err := io.ReadFull(r.Body, buf)
			w.Write(buf[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	})
	addr := startProxy(t, false, s.URL)
	for name, header := range map[string]http.Header{"plain": {}, "expects": {"Expect": {"100-continue"}}} {
		for _, length := range []int64{-1, 16 * 64 << 10} {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			body, send := io.Pipe()
			context.AfterFunc(ctx, func() { send.CloseWithError(ctx.Err()) })
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, addr+"/echo", body)
			req.Header, req.ContentLength = header.Clone(), length
			piece := make([]byte, 64<<10)
			go send.Write(piece)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 16 {
				if i > 0 {
					piece[0] = byte(i)
					if _, err := send.Write(piece); err != nil {
						t.Fatalf("%s, length %d: piece %d could not be sent: %v", name, length, i, err)
					}
				}
				got := make([]byte, len(piece))
				if _, err := io.ReadFull(resp.Body, got); err != nil || got[0] != byte(i) {
					t.Fatalf("%s, length %d: piece %d came back as %d, %v", name, length, i, got[0], err)
				}
			}
			send.Close()
			if n, err := io.Copy(io.Discard, resp.Body); n > 0 || err != nil {
				t.Errorf("%s, length %d: after the last piece came %d bytes and %v", name, length, n, err)
			}
			resp.Body.Close()
		}
	}
}
