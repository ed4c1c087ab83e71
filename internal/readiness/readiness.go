// Package readiness asks a server of this machine whether it is ready: the
// health check of a container that holds one program, no shell and no curl.
package readiness

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/internal/wire"
)

// Timeout bounds one question.
const Timeout = 2 * time.Second

// Ask returns nil when GET base/readyz answers 200, and what the server said
// otherwise. base is the server's own address on loopback, or one that a person
// gave. The certificate, which often names another host, is not checked: nothing
// is sent but the question.
func Ask(ctx context.Context, base string) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	url := strings.TrimRight(base, "/") + "/readyz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{CheckRedirect: wire.NoRedirect, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if why := wire.Beginning(resp); resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", url, resp.Status, why)
	}
	return nil
}
