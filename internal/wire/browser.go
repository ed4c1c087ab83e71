package wire

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Browsers is what pages in browsers may do with a server. A page of any other site
// can send it a request, and one whose name is pointed at the server's address can read
// the answer. Programs are not touched by any of it: they send neither Origin nor
// Sec-Fetch-Site.
type Browsers struct {
	// Hosts are names under which the server may be asked by a browser, besides
	// addresses, localhost and names of one label. An empty one counts for nothing.
	Hosts []string
	// Origins are pages that may call the server, such as https://ci.example.com; "*"
	// are all.
	Origins []string
	// Passing is for a proxy, whose answers are of others.
	Passing bool
	// Only is the one Host, with its port, that anybody may ask for; "" leaves programs
	// free.
	Only string
}

// HostsOf returns the names in URLs.
func HostsOf(urls ...string) []string {
	var hosts []string
	for _, text := range urls {
		if u, err := url.Parse(text); err == nil && u.Hostname() != "" {
			hosts = append(hosts, u.Hostname())
		}
	}
	return hosts
}

// Guard stands before a server, outside of everything else. What it refuses has done
// nothing.
func (b Browsers) Guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		if !b.Passing {
			// No answer of ours is a page; a server of pages says otherwise where it has one.
			head.Set("X-Content-Type-Options", "nosniff")
			head.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
		}
		if why := b.strange(r); why != "" {
			WriteFailure(w, &Error{Status: http.StatusMisdirectedRequest, Code: CodeNotPermitted, Message: why}, nil)
			return
		}
		if origin := r.Header.Get("Origin"); b.allows(origin) {
			head.Add("Vary", "Origin")
			head.Set("Access-Control-Allow-Origin", origin)
			if slices.Contains(b.Origins, "*") {
				head.Set("Access-Control-Allow-Origin", "*")
			}
			head.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS")
			head.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, "+IdempotencyHeader)
			if r.Method == http.MethodOptions {
				w.WriteHeader(http.StatusOK)
				return
			}
		} else if cross.Check(r) != nil {
			WriteFailure(w, &Error{Status: http.StatusForbidden, Code: CodeNotPermitted, Message: "a page of another site may not do this"}, nil)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allows reports whether pages of an origin may call the server.
func (b Browsers) allows(origin string) bool {
	return slices.Contains(b.Origins, "*") || origin != "" && slices.Contains(b.Origins, origin)
}

// strange returns why a request asks for a Host that is not this server's, or "".
func (b Browsers) strange(r *http.Request) string {
	if b.Only != "" {
		if r.Host != b.Only {
			return "this address serves " + b.Only + " only"
		}
		return ""
	}
	if !fromBrowser(r) {
		return ""
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if net.ParseIP(strings.Trim(host, "[]")) != nil || !strings.Contains(host, ".") {
		return ""
	}
	if slices.ContainsFunc(b.Hosts, func(own string) bool { return strings.EqualFold(own, host) }) {
		return ""
	}
	if b.Passing {
		return "a browser may ask this proxy by its address, or a name without a dot"
	}
	return "this server is not known as " + cut(host, maxEcho) + " to browsers; --ui-hosts " + cut(host, maxEcho) + " (ANKA_UI_HOSTS) makes it so"
}

// fromBrowser reports whether a request may come from a browser.
func fromBrowser(r *http.Request) bool {
	for name := range r.Header {
		if name == "Origin" || name == "Cookie" || strings.HasPrefix(name, "Sec-Fetch-") {
			return true
		}
	}
	return strings.HasPrefix(r.UserAgent(), "Mozilla/")
}
