package wire

import (
	"net/http"
	"strings"
	"testing"
)

func TestPeopleAreHeldToNamesAndExistingClientsAreNot(t *testing.T) {
	t.Parallel()
	type request struct {
		VMID  string `json:"vmid"`
		Count *int   `json:"count"`
		Rules []struct {
			GuestPort string `json:"guest_port"`
		} `json:"rules"`
		Metadata map[string]any `json:"metadata"`
	}
	for _, tc := range []struct {
		agent, query, body, text string // text is the error, "" for none
	}{
		{"curl/8.7.1", "", `{"vmid":"a","count":2,"metadata":{"any":1},"rules":[{"guest_port":"22"}]}`, ""},
		{"curl/8.7.1", "", `{"vmid":"a","cuont":2}`, `unknown field "cuont"; is "count" meant?`},
		{"curl/8.7.1", "", `{"rules":[{"guestport":"22"}]}`, `unknown field "guestport"; is "guest_port" meant?`},
		{"curl/8.7.1", "", `{"colour":1}`, `unknown field "colour"`},
		{"curl/8.7.1", "", `{"count":1}{}`, `malformed JSON: invalid character '{' after top-level value`},
		{"curl/8.7.1", "", `{"count":"1"}`, `field "count": expected integer, got string`},
		{"curl/8.7.1", "?id=1", `{}`, ""},
		{"curl/8.7.1", "?limt=1", `{}`, `unknown parameter "limt"; is "limit" meant?`},
		{"Mozilla/5.0", "?state=Started", `{}`, `unknown parameter "state": this call takes id, limit`},
		{"Apache-HttpClient/4.5.13 (Java/11.0.19)", "?state=Started", `{"cuont":2}`, ""},
		{"Go-http-client/1.1", "?state=Started", `{"cuont":2}`, ""},
		{"", "?state=Started", `{"cuont":2}`, ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/x"+tc.query, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("User-Agent", tc.agent)
		err = CheckQuery(r, "id", "limit")
		if err == nil {
			_, err = Decode[request](r)
		}
		want := 0
		if tc.text != "" {
			want = http.StatusBadRequest
		}
		if code, text := codeAndText(err); code != want || text != tc.text {
			t.Errorf("%s %s %s: got %d %q, want %d %q", tc.agent, tc.query, tc.body, code, text, want, tc.text)
		}
	}
}
