package main

import (
	"cmp"
	"embed"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// The commands and options of each supported version of tart are data, read from
// its sources; facts_test.go reads those again. Where the fakes of the agent's tests
// accepted what the real command refuses, the tests proved nothing.
//
// A line of facts/VERSION.txt is
//
//	COMMAND | OPTIONS | ARGUMENTS
//
// with an option written as its names joined by commas, and "=" where a value
// follows.
//
//go:embed facts/*.txt
var factFiles embed.FS

// versions are the supported ones, oldest first. How they differ beside their
// options is in the code: see versionIn.
var versions = []string{"2.27.2", "2.27.3", "2.28.2", "2.32.1", "2.33.1", "2.35.0"}

// versionNumber is the version that this process plays.
func versionNumber() string { return cmp.Or(os.Getenv("FAKETART_VERSION"), "2.35.0") }

// versionIn reports whether the version is at least from and before the other; ""
// is without bound.
func versionIn(from, before string) bool {
	v := versionNumber()
	return (from == "" || !olderThan(v, from)) && (before == "" || olderThan(v, before))
}

// olderThan compares two versions of three numbers.
func olderThan(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		m, _ := strconv.Atoi(x[i])
		n, _ := strconv.Atoi(y[i])
		if m != n {
			return m < n
		}
	}
	return len(x) < len(y)
}

// facts are the options of each command.
type facts map[string]string

// loadFacts returns what is known of the newest supported version that is not newer
// than number.
func loadFacts(number string) (facts, error) {
	version := versions[0]
	for _, v := range versions {
		if !olderThan(number, v) {
			version = v
		}
	}
	data, err := factFiles.ReadFile("facts/" + version + ".txt")
	if err != nil {
		return nil, err
	}
	f := make(facts)
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Split(line, "|")
		if len(fields) != 3 {
			return nil, fmt.Errorf("facts/%s.txt: %q has not three parts", version, line)
		}
		f[strings.TrimSpace(fields[0])] = strings.TrimSpace(fields[1])
	}
	return f, nil
}
