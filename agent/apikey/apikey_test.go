package apikey

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// server wants a handshake when secure; a session is good for limit requests.
type server struct {
	secure bool
	limit  int
	pub    *rsa.PublicKey

	mu     sync.Mutex
	secret string
	n      int // sessions
	used   int
	bodies []string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	switch r.URL.Path {
	case "/tap/v1/hand":
		s.secret = rand.Text()
		sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, s.pub, []byte(s.secret), nil)
		if err != nil {
			w.WriteHeader(500)
			return
		}
		fmt.Fprint(w, base64.StdEncoding.EncodeToString(sealed))
	case "/tap/v1/shake":
		var req struct{ ID, Secret string }
		if json.Unmarshal(body, &req) != nil || req.Secret != s.secret {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.n++
		s.used = 0
		fmt.Fprintf(w, `{"id":%q,"data":{"userName":%q,"sessionId":"%d","token":"t"}}`, req.ID, req.ID, s.n)
	default:
		want := "Bearer " + base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `{"userName":"node","sessionId":"%d","token":"t"}`, s.n))
		if s.secure && (s.n == 0 || s.used >= s.limit || r.Header.Get("Authorization") != want) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if !s.secure && r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.used++
		s.bodies = append(s.bodies, string(body))
	}
}

// A19: controller and registry are signed for independently, and neither is
// signed for without need.
func TestA19HandshakesOnlyWhereAsked(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, secureController := range []bool{false, true} {
		for _, secureRegistry := range []bool{false, true} {
			for name, secure := range map[string]bool{"controller": secureController, "registry": secureRegistry} {
				s := &server{secure: secure, limit: 3, pub: &key.PublicKey}
				srv := httptest.NewServer(s)
				client := &http.Client{Transport: New(srv.URL, "node", func() (*rsa.PrivateKey, error) { return key, nil }, http.DefaultTransport)}
				for n := range 10 {
					resp, err := client.Post(srv.URL+"/x", "text/plain", strings.NewReader(fmt.Sprint("body ", n)))
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					if resp.StatusCode != 200 {
						t.Errorf("%s (secure %v): request %d: %s", name, secure, n, resp.Status)
					}
				}
				srv.Close()
				if len(s.bodies) != 10 || s.bodies[9] != "body 9" {
					t.Errorf("%s: bodies %q", name, s.bodies)
				}
				if wantSessions := map[bool]int{false: 0, true: 4}[secure]; s.n != wantSessions {
					t.Errorf("%s (secure %v): got %d handshakes, want %d", name, secure, s.n, wantSessions)
				}
			}
		}
	}
}

func TestTokenForRequestsThatCannotBeRepeated(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{secure: true, limit: 100, pub: &key.PublicKey}
	srv := httptest.NewServer(s)
	defer srv.Close()
	tr := New(srv.URL, "node", func() (*rsa.PrivateKey, error) { return key, nil }, http.DefaultTransport)
	token := tr.Token(context.Background(), "/v2/")
	if token == "" || tr.Token(context.Background(), "/v2/") != token || s.n != 1 {
		t.Errorf("token %q after %d handshakes", token, s.n)
	}
}

func TestParseKeyTakesEveryForm(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PrivateKey(key)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"pkcs1": pkcs1, "pkcs8": pkcs8,
		"base64": []byte(base64.StdEncoding.EncodeToString(pkcs1) + "\n"),
		"pem":    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	} {
		got, err := ParseKey(data)
		if err != nil || !got.Equal(key) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseKey([]byte("not a key")); err == nil {
		t.Error("nonsense was taken for a key")
	}
}
