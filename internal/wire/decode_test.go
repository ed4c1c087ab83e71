package wire

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

func TestDecodeSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	type request struct {
		Name  string            `json:"name"`
		Count *int              `json:"count"`
		Share float64           `json:"share"`
		List  []string          `json:"list"`
		Inner struct{ On bool } `json:"inner"`
	}
	for _, tc := range []struct {
		body io.Reader
		code int // 0 for none
		text string
	}{
		{strings.NewReader(``), 0, ""},
		{strings.NewReader(`{"name":"a","unknown":{}}`), 0, ""},
		{strings.NewReader(`[]`), 400, "expected object, got array"},
		{strings.NewReader(`"x"`), 400, "expected object, got string"},
		{strings.NewReader(`{"count":1.5}`), 400, `field "count": expected integer, got number 1.5`},
		{strings.NewReader(`{"count":"1"}`), 400, `field "count": expected integer, got string`},
		{strings.NewReader(`{"share":"1"}`), 400, `field "share": expected number, got string`},
		{strings.NewReader(`{"name":7}`), 400, `field "name": expected string, got number`},
		{strings.NewReader(`{"list":{}}`), 400, `field "list": expected array, got object`},
		{strings.NewReader(`{"inner":{"on":1}}`), 400, `field "inner.On": expected bool, got number`},
		{strings.NewReader(`{"name":`), 400, "malformed JSON: unexpected end of JSON input"},
		{strings.NewReader(`{}{}`), 400, "malformed JSON: invalid character '{' after top-level value"},
		{strings.NewReader(strings.Repeat(" ", MaxBody-2) + `{}`), 0, ""},
		{strings.NewReader(strings.Repeat(" ", MaxBody-1) + `{}`), 413, "request body is larger than 1 MB"},
		{iotest.ErrReader(io.ErrUnexpectedEOF), 400, "request body could not be read"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", tc.body)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Decode[request](r)
		if code, text := codeAndText(err); code != tc.code || text != tc.text {
			t.Errorf("%d %q, want %d %q", code, text, tc.code, tc.text)
		}
	}
}

func codeAndText(err error) (int, string) {
	if err == nil {
		return 0, ""
	}
	e := AsError(err)
	return e.Status, e.Message
}
