// Package apikey signs a node's requests with an API key: it shakes hands with a
// pool of servers (the token access protocol) and adds the session's token to
// each request.
//
//	t := apikey.New("http://controllers", id, loadKey, pool.Client().Transport)
//	client := &http.Client{Transport: t}
//
// A server that wants no authentication is never asked for a handshake: the
// first 401 begins it, so that controller and registry may differ (A19). A
// session that ended is renewed once for each request that meets a 401.
package apikey

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/internal/wire"
)

// Transport signs requests. It is safe for concurrent use.
type Transport struct {
	base string
	id   string
	key  func() (*rsa.PrivateKey, error)
	next http.RoundTripper

	shaking sync.Mutex // one handshake at a time

	mu    sync.Mutex
	token string    // guarded by mu; "" while none is needed
	since time.Time // guarded by mu; of the token, or of the last look that needed none
}

// renewAfter is well within the shortest session life that is documented (5m).
const renewAfter = 2 * time.Minute

// maxHandshake bounds the answers of a handshake.
const maxHandshake = 64 << 10

// New returns a transport for one pool. key is asked before each handshake, so
// that a key file may change.
func New(base, id string, key func() (*rsa.PrivateKey, error), next http.RoundTripper) *Transport {
	return &Transport{base: base, id: id, key: key, next: next}
}

// RoundTrip sends req with the present token, and once more after a handshake
// when the server says that it is not good.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	token, _ := t.current()
	resp, err := t.next.RoundTrip(signed(req, token))
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !replayable(req) {
		return resp, err
	}
	fresh, shakeErr := t.shake(req.Context(), token)
	if shakeErr != nil {
		// The server's own answer says more than the handshake's failure, but
		// not why: keep both.
		resp.Header.Set("X-Handshake-Error", shakeErr.Error())
		return resp, nil
	}
	again := signed(req, fresh)
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return resp, nil
		}
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxHandshake))
	resp.Body.Close()
	return t.next.RoundTrip(again)
}

// Token returns a token for requests that cannot be repeated, "" where none is
// needed. It looks at path when it has not looked for a while.
func (t *Transport) Token(ctx context.Context, path string) string {
	token, since := t.current()
	if time.Since(since) < renewAfter {
		return token
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base+path, nil)
	if err != nil {
		return token
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return token
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxHandshake))
	resp.Body.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since = time.Now()
	return t.token
}

func (t *Transport) current() (string, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.token, t.since
}

func signed(req *http.Request, token string) *http.Request {
	if token == "" || req.Header.Get("Authorization") != "" {
		return req
	}
	out := req.Clone(req.Context())
	out.Header.Set("Authorization", "Bearer "+token)
	return out
}

func replayable(req *http.Request) bool {
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}

// shake gets a new token, unless somebody else did since stale was read.
func (t *Transport) shake(ctx context.Context, stale string) (string, error) {
	t.shaking.Lock()
	defer t.shaking.Unlock()
	if token, _ := t.current(); token != stale && token != "" {
		return token, nil
	}
	key, err := t.key()
	if err != nil {
		return "", err
	}
	hand, err := t.post(ctx, "/tap/v1/hand", map[string]string{"id": t.id})
	if err != nil {
		return "", fmt.Errorf("hand: %w", err)
	}
	sealed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(hand)))
	if err != nil {
		return "", fmt.Errorf("hand: the answer is not base64: %w", err)
	}
	secret, err := rsa.DecryptOAEP(sha256.New(), rand.Reader, key, sealed, nil)
	if err != nil {
		return "", errors.New("hand: the server's secret is for another key")
	}
	answer, err := t.post(ctx, "/tap/v1/shake", map[string]string{"id": t.id, "secret": string(secret)})
	if err != nil {
		return "", fmt.Errorf("shake: %w", err)
	}
	var session struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(answer, &session); err != nil || len(session.Data) == 0 {
		return "", errors.New("shake: the answer holds no session")
	}
	token := base64.StdEncoding.EncodeToString(session.Data)
	t.mu.Lock()
	t.token, t.since = token, time.Now()
	t.mu.Unlock()
	return token, nil
}

func (t *Transport) post(ctx context.Context, path string, body any) ([]byte, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	out, err := wire.ReadAnswer(resp, maxHandshake)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %s", resp.Status)
	}
	return out, nil
}

// ParseKey reads an API key: base64 PKCS#1 or PKCS#8 DER as the controller
// hands it out, DER itself, or PEM.
func ParseKey(data []byte) (*rsa.PrivateKey, error) {
	der := data
	if block, _ := pem.Decode(data); block != nil {
		der = block.Bytes
	} else if raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(data)), "")); err == nil {
		der = raw
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if rsaKey, ok := key.(*rsa.PrivateKey); ok {
			return rsaKey, nil
		}
	}
	// The cause would quote the key's bytes to nobody's use.
	return nil, errors.New("is not an RSA private key (PKCS#1 or PKCS#8, PEM or base64)")
}
