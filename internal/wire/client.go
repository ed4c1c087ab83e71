package wire

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Client calls a server of ours. It is safe for concurrent use.
type Client struct {
	Base string // of all URLs, without a slash at its end
	HTTP *http.Client
	// Server is what the server is called in errors, for example "registry".
	Server string
	// MaxAnswer bounds what is read of an answer, in bytes; 0 means the package's.
	MaxAnswer int64
	// Plain answers are JSON without an envelope.
	Plain bool
	// Before are the codes of messages of servers that answer without a code, as
	// those from before ErrorHeader do.
	Before map[string]Code
}

// Request is one call of a Client.
type Request struct {
	Method, Path string
	// Body is sent as JSON, unless it is nil.
	Body any
	// Stream is sent as it is, in place of Body.
	Stream io.Reader
	Header http.Header
	// Answer, if not nil, is given the header of the answer.
	Answer *http.Header
}

// Call makes one call and returns the body of the answer. The errors are *Error
// with From set for answers that are not OK, or are no answer of ours (CodeForeign), and
// those of the transport.
func Call[T any](ctx context.Context, c *Client, call Request) (T, error) {
	var out T
	resp, err := c.send(ctx, call)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if call.Answer != nil {
		*call.Answer = resp.Header
	}
	if err := c.redirected(resp); err != nil {
		return out, err
	}
	if c.Plain && resp.StatusCode != http.StatusOK {
		return out, c.failure(resp, http.StatusText(resp.StatusCode))
	}
	var env struct {
		Status  string `json:"status"`
		Message string `json:"message"`
		Body    *T     `json:"body"`
	}
	var into any = &env
	if c.Plain {
		env.Status, into = StatusOK, &env.Body
	}
	limit := cmp.Or(c.MaxAnswer, MaxAnswer)
	data, err := ReadAnswer(resp, limit)
	if err == nil {
		if err = Measure(data, max(MaxValues, len(data)/answerValueSize)); err == nil {
			err = json.Unmarshal(data, into)
		}
	}
	if err != nil {
		if _, ok := errors.AsType[net.Error](err); ok || ctx.Err() != nil {
			return out, err // the answer did not come to its end
		}
		return out, &Error{From: c.Server, Status: resp.StatusCode, Code: CodeForeign, Message: fmt.Sprintf("the answer is not from a %s: %v", c.Server, err), Cause: err}
	}
	switch {
	case env.Status == "":
		return out, &Error{From: c.Server, Status: resp.StatusCode, Code: CodeForeign, Message: fmt.Sprintf("the answer is not from a %s", c.Server)}
	case resp.StatusCode != http.StatusOK || env.Status != StatusOK:
		return out, c.failure(resp, env.Message)
	case env.Body != nil:
		out = *env.Body
	}
	return out, nil
}

// NoRedirect is for the CheckRedirect of every client of ours: what goes with a request,
// credentials and data, is for the server that was named.
func NoRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// redirected reports an answer that names another address.
func (c *Client) redirected(resp *http.Response) error {
	to, err := resp.Location()
	if err != nil || resp.StatusCode < 300 || resp.StatusCode >= 400 {
		return nil
	}
	return &Error{From: c.Server, Status: resp.StatusCode, Code: CodeForeign,
		Message: fmt.Sprintf("it sends callers on to %s, which is not followed: name that address if it is the %s's", cut(to.Redacted(), 2*maxEcho), c.Server)}
}

// ErrLongAnswer: an answer is longer than it may be.
var ErrLongAnswer = errors.New("it does not end")

// ReadAnswer reads the body of an answer, and closes it. An answer that is longer than
// limit, in bytes, is ErrLongAnswer.
func ReadAnswer(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%w within %s", ErrLongAnswer, sizeText(limit))
	}
	return data, err
}

func sizeText(bytes int64) string {
	if bytes < 1<<20 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}

// Beginning reads what an answer begins with, for an error to tell, and closes it. It
// may be a part of the answer, or nothing where that could not be read.
func Beginning(resp *http.Response) string {
	defer resp.Body.Close()
	data, _ := io.ReadAll(io.LimitReader(resp.Body, maxBeginning))
	return strings.TrimSpace(strings.ToValidUTF8(string(data), ""))
}

// maxBeginning is what an error tells of an answer at most, in bytes.
const maxBeginning = 512

func (c *Client) send(ctx context.Context, call Request) (*http.Response, error) {
	body, kind := call.Stream, "application/octet-stream"
	if body == nil && call.Body != nil {
		data, err := json.Marshal(call.Body)
		if err != nil {
			return nil, err
		}
		body, kind = bytes.NewReader(data), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, call.Method, c.Base+call.Path, body)
	if err != nil {
		return nil, err
	}
	for name, values := range call.Header {
		req.Header[name] = values
	}
	if body != nil {
		req.Header.Set("Content-Type", kind)
	}
	return c.HTTP.Do(req)
}

func (c *Client) failure(resp *http.Response, message string) *Error {
	return &Error{From: c.Server, Status: resp.StatusCode, Code: cmp.Or(Code(resp.Header.Get(ErrorHeader)), c.Before[message]), Message: message}
}
