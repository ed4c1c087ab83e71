package drill

import (
	"regexp"
	"slices"
	"strings"
)

var varying = regexp.MustCompile(`(\d{1,3}\.){3}\d{1,3}(:\d+)?(->(\d{1,3}\.){3}\d{1,3}:\d+)?|"[a-z]+-[0-9-]+"`)

// class reduces an error text to what many of them have in common.
func class(failure string) string {
	failure = strings.ReplaceAll(failure, "\n", "; ")
	if i := strings.LastIndex(failure, `": `); i >= 0 && strings.HasPrefix(failure[strings.Index(failure, " ")+1:], `"http`) {
		failure = failure[i+3:] // net/url's: Get "http://...": cause
	}
	failure = varying.ReplaceAllString(failure, "*")
	if len(failure) > 160 {
		failure = failure[:160] + "..."
	}
	return failure
}

// mostCommon returns the n keys of counts with the highest counts.
func mostCommon(counts map[string]int, n int) []string {
	var keys []string
	for k := range counts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return strings.Compare(a, b)
	})
	return keys[:min(n, len(keys))]
}
