package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// upgradeOf is the protocol that a message asks, or agrees, to go on in; "" for none.
func upgradeOf(h http.Header) string {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(name), "Upgrade") {
				return h.Get("Upgrade")
			}
		}
	}
	return ""
}

// converse goes on in the protocol that client and endpoint have agreed on, until both
// are done or one has failed. Its error is that this did not begin.
func converse(w http.ResponseWriter, r *http.Request, resp *http.Response) error {
	asked, got := upgradeOf(r.Header), upgradeOf(resp.Header)
	endpoint, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || asked == "" || !strings.EqualFold(asked, got) {
		return fmt.Errorf("the endpoint went on in %q where %q was asked for", got, asked)
	}
	conn, early, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("the connection cannot be taken over: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(r.Context(), func() { endpoint.Close() })()
	answer := *resp
	answer.Body = nil // the header alone
	if answer.Write(early) != nil || early.Flush() != nil {
		return nil // the client is gone
	}
	ended := make(chan error, 2)
	go func() { ended <- pass(endpoint, early.Reader) }()
	go func() { ended <- pass(conn, endpoint) }()
	if <-ended == nil {
		<-ended
	}
	endpoint.Close()
	conn.Close()
	return nil
}

// pass copies one direction, and its end if that can be passed on.
func pass(to io.Writer, from io.Reader) error {
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}
