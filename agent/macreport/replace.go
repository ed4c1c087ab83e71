package macreport

import (
	"cmp"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strings"
)

// Replacer takes personal details out of a text.
type Replacer struct {
	words    []string // old, new, old, new...
	patterns []pattern
}

type pattern struct {
	match *regexp.Regexp
	with  string
}

// minWord is how short a name may be and still be replaced wherever it stands: one
// of two letters is a part of many words.
const minWord = 3

// NewReplacer replaces each word that is a key by its value, and whatever looks
// like a serial number's field, a licence key, a password, a mail address, a
// hardware address or a public IP address.
func NewReplacer(words map[string]string) Replacer {
	var r Replacer
	olds := make([]string, 0, len(words))
	for old := range words {
		if len(old) >= minWord {
			olds = append(olds, old)
		}
	}
	// The longest first: a home directory has the user's name in it.
	slices.SortFunc(olds, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	for _, old := range olds {
		r.words = append(r.words, old, words[old])
	}
	for _, p := range [][2]string{
		{`(?i)("[^"]*(?:password|passwd|secret|token|api_key|license_key|licence_key|fulfillment_id|hardware_id|hw_id|serial|cid)[^"]*"\s*:\s*)"[^"]*"`, `$1"REPLACED"`},
		{`(?i)((?:password|passwd|secret|token|api-key|serial(?: number)?(?: \([a-z]+\))?)\s*[:=|]\s*)[^\s|,}]+`, `${1}REPLACED`},
		{`[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+\.[A-Za-z]{2,}`, `someone@example.com`},
		{`(?i)\b(?:[0-9a-f]{1,2}:){5}[0-9a-f]{1,2}\b`, `02:00:00:00:00:01`},
		{`\b(?:[0-9A-F]{4}-){3,}[0-9A-F]{4}\b`, `REPLACED-KEY`},
	} {
		r.patterns = append(r.patterns, pattern{regexp.MustCompile(p[0]), p[1]})
	}
	return r
}

// publicIP finds addresses; those of private networks tell nothing of anybody.
var (
	publicIP  = regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}\b`)
	privateIP = regexp.MustCompile(`^(0|10|127|169\.254|192\.168|172\.(1[6-9]|2\d|3[01])|255)\.`)
)

// Text returns s without what is to be replaced.
func (r Replacer) Text(s string) string {
	s = strings.NewReplacer(r.words...).Replace(s)
	for _, p := range r.patterns {
		s = p.match.ReplaceAllString(s, p.with)
	}
	return publicIP.ReplaceAllStringFunc(s, func(ip string) string {
		if privateIP.MatchString(ip) {
			return ip
		}
		return "192.0.2.1"
	})
}

// Personal returns the words of this machine and its user, and more of them from
// the caller, such as the hardware's serial number.
func Personal(more ...string) map[string]string {
	words := make(map[string]string)
	if name, err := os.Hostname(); err == nil {
		words[name] = "mac.local"
		short, _, _ := strings.Cut(name, ".")
		words[short] = "mac"
	}
	users := []string{os.Getenv("USER"), os.Getenv("SUDO_USER")}
	if u, err := user.Current(); err == nil {
		users = append(users, u.Username)
		words[u.Name] = "Some One"
		words[u.HomeDir] = "/Users/someone"
	}
	if home := os.Getenv("HOME"); home != "" {
		words[home] = "/Users/someone"
	}
	for _, name := range users {
		if name != "root" { // which stands in many answers, and names nobody
			words[name] = "someone"
			words["/Users/"+name] = "/Users/someone"
		}
	}
	for _, m := range more {
		words[m] = "REPLACED"
	}
	delete(words, "/root")
	delete(words, "root")
	delete(words, "localhost")
	return words
}
