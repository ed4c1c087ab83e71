package main

import (
	"cmp"
	"embed"
	"fmt"
	"os"
	"strings"
)

// The commands and options of each supported version of the anka command are
// data, taken from the help texts that its vendor publishes; facts_test.go reads
// those again. Where the fakes of the agent's tests accepted what the real
// command refuses, the tests proved nothing.
//
// A line of facts/VERSION.txt is
//
//	COMMAND | OPTIONS | ARGUMENTS
//
// with an option written as its names joined by commas, and "=" where a value
// follows. What is known from elsewhere stands in facts/beside.txt.
//
//go:embed facts/*.txt
var factFiles embed.FS

// versions are the supported ones, oldest first, with the full number that
// `version` answers.
var versions = [][2]string{{"3.6", "3.6.1"}, {"3.8", "3.8.6"}, {"3.9", "3.9.1"}}

// versionNumber is the version that this process plays.
func versionNumber() string { return cmp.Or(os.Getenv("FAKEANKA_VERSION"), "3.9.1") }

// facts are the options of each command, by its words.
type facts map[string]string

// loadFacts returns what is known of the newest supported version that is not
// newer than number.
func loadFacts(number string) (facts, error) {
	version := versions[0][0]
	for _, v := range versions {
		if atLeast(number, v[0]) {
			version = v[0]
		}
	}
	f := make(facts)
	for _, name := range []string{version, "beside"} {
		data, err := factFiles.ReadFile("facts/" + name + ".txt")
		if err != nil {
			return nil, err
		}
		if err := f.read(string(data), number); err != nil {
			return nil, fmt.Errorf("facts/%s.txt: %w", name, err)
		}
	}
	return f, nil
}

// read adds lines; one that begins with "3.9+ " counts from that version on.
func (f facts) read(text, number string) error {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if since, rest, ok := strings.Cut(line, "+ "); ok && since[0] >= '0' && since[0] <= '9' {
			if !atLeast(number, since) {
				continue
			}
			line = rest
		}
		fields := strings.Split(line, "|")
		if len(fields) != 3 {
			return fmt.Errorf("%q has not three parts", line)
		}
		name := strings.TrimSpace(fields[0])
		f[name] = strings.TrimSpace(f[name] + " " + strings.TrimSpace(fields[1]))
	}
	return nil
}

// atLeast compares two dotted numbers as far as want goes.
func atLeast(number, want string) bool {
	have := strings.Split(number, ".")
	for i, w := range strings.Split(want, ".") {
		var a, b int
		if i < len(have) {
			_, _ = fmt.Sscan(have[i], &a)
		}
		_, _ = fmt.Sscan(w, &b)
		if a != b {
			return a > b
		}
	}
	return true
}
