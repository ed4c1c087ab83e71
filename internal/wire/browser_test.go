package wire

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestPagesOfOtherSitesDoNothing(t *testing.T) {
	t.Parallel()
	own := Browsers{Hosts: []string{"controller.example.com", ""}}
	open := Browsers{Origins: []string{"*"}}
	some := Browsers{Origins: []string{"https://ci.example.com"}, Hosts: []string{"controller.example.com"}}
	only := Browsers{Only: "127.0.0.1:5000"}
	type header = map[string]string
	for name, c := range map[string]struct {
		b            Browsers
		method, host string
		header       header
		status       int
	}{
		"curl":                         {own, "POST", "anything.example.org", header{"User-Agent": "curl/8"}, 200},
		"Jenkins":                      {own, "DELETE", "10.0.0.1:8090", header{"User-Agent": "Apache-HttpClient/4.5"}, 200},
		"a page of another site":       {own, "POST", "10.0.0.1:8090", header{"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, 403},
		"over plain HTTP":              {own, "POST", "10.0.0.1:8090", header{"Origin": "http://evil.example"}, 403},
		"that reads":                   {own, "GET", "10.0.0.1:8090", header{"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, 200}, // the browser keeps it
		"a sandboxed page":             {own, "POST", "10.0.0.1:8090", header{"Origin": "null"}, 403},
		"a rebound name":               {own, "POST", "evil.example:8090", header{"Origin": "http://evil.example:8090"}, 421},
		"a rebound name that reads":    {own, "GET", "evil.example:8090", header{"User-Agent": "Mozilla/5.0"}, 421},
		"a rebound name with a cookie": {own, "GET", "evil.example", header{"Cookie": "a=b"}, 421},
		"own page":                     {own, "POST", "controller.example.com:8090", header{"Origin": "http://controller.example.com:8090"}, 200},
		"own page, in capitals":        {own, "GET", "Controller.Example.Com.", header{"User-Agent": "Mozilla/5.0"}, 200},
		"a page at an address":         {own, "POST", "[::1]:8090", header{"Origin": "http://[::1]:8090", "Sec-Fetch-Site": "same-origin"}, 200},
		"a short name":                 {own, "GET", "mini:8090", header{"User-Agent": "Mozilla/5.0"}, 200},
		"any page, as allowed":         {open, "POST", "10.0.0.1", header{"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, 200},
		"a page of the list":           {some, "POST", "10.0.0.1", header{"Origin": "https://ci.example.com", "Sec-Fetch-Site": "cross-site"}, 200},
		"a page beside the list":       {some, "POST", "10.0.0.1", header{"Origin": "https://ci.example.com.evil.example"}, 403},
		"a loopback proxy":             {only, "GET", "127.0.0.1:5000", nil, 200},
		"a loopback proxy, rebound":    {only, "GET", "evil.example:5000", nil, 421},
	} {
		done := false
		r := httptest.NewRequestWithContext(t.Context(), c.method, "/", nil)
		r.Host = c.host
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		answer := httptest.NewRecorder()
		c.b.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { done = true })).ServeHTTP(answer, r)
		if answer.Code != c.status || done != (c.status == 200) {
			t.Errorf("%s: got %d, served %t, want %d", name, answer.Code, done, c.status)
		}
		if answer.Header().Get("X-Content-Type-Options") != "nosniff" || answer.Header().Get("Content-Security-Policy") == "" {
			t.Errorf("%s: headers %v", name, answer.Header())
		}
	}
}

func TestOriginsOfTheListAreAnswered(t *testing.T) {
	t.Parallel()
	for origins, want := range map[string]string{"*": "*", "https://ci.example.com": "https://ci.example.com", "https://other.example.com": ""} {
		b := Browsers{Origins: []string{origins}}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, "/", nil)
		r.Host = "10.0.0.1"
		r.Header.Set("Origin", "https://ci.example.com")
		answer := httptest.NewRecorder()
		b.Guard(http.NotFoundHandler()).ServeHTTP(answer, r)
		if got := answer.Header().Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%s: got %q, want %q", origins, got, want)
		}
	}
}
