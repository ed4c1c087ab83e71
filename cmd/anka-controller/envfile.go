package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// withEnvFile returns lookup with the variables of a file behind it: the real
// environment wins. The file may hold secrets, so nobody else may read it.
func withEnvFile(file string, lookup func(string) (string, bool)) (func(string) (string, bool), error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("--env-file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("--env-file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("--env-file %s can be read by others (%#o): chmod 600 %s", file, info.Mode().Perm(), file)
	}
	vars := make(map[string]string)
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok || !strings.HasPrefix(name, "ANKA_") {
			return nil, fmt.Errorf("--env-file %s line %d: not ANKA_NAME=value", file, n) // the line itself may be a secret
		}
		if _, known := settingNames()[name]; !known {
			return nil, fmt.Errorf("--env-file %s line %d: there is no setting %s", file, n, name)
		}
		vars[name] = value
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("--env-file %s: %w", file, err)
	}
	return func(name string) (string, bool) {
		if v, ok := lookup(name); ok {
			return v, true
		}
		v, ok := vars[name]
		return v, ok
	}, nil
}

// settingNames is the set of variables that mean something.
func settingNames() map[string]bool {
	names := make(map[string]bool)
	for _, s := range (&config{}).table() {
		for _, n := range append([]string{s.env}, s.aliases...) {
			names[n] = true
		}
	}
	return names
}
