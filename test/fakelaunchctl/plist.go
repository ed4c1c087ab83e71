package fakelaunchctl

import (
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// plist is what counts of a property list.
type plist struct {
	path, label      string
	arguments        []string
	environment      map[string]string
	workingDirectory string
	stdout, stderr   string
	runAtLoad        bool
	keepAlive        bool // always
	restartFailed    bool // when the process did not end with 0
	throttle         time.Duration
	exitTimeOut      time.Duration
}

// element is any element of a property list.
type element struct {
	XMLName  xml.Name
	Text     string    `xml:",chardata"`
	Children []element `xml:",any"`
}

// value returns what an element stands for: a string, bool, []any or map[string]any.
func (e element) value() any {
	switch e.XMLName.Local {
	case "true", "false":
		return e.XMLName.Local == "true"
	case "array":
		all := []any{}
		for _, c := range e.Children {
			all = append(all, c.value())
		}
		return all
	case "dict":
		all := make(map[string]any)
		for i := 0; i+1 < len(e.Children); i += 2 {
			all[e.Children[i].Text] = e.Children[i+1].value()
		}
		return all
	}
	return e.Text
}

func readPlist(path string) (plist, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return plist{}, err
	}
	var root element
	if err := xml.Unmarshal(data, &root); err != nil {
		return plist{}, err
	}
	if len(root.Children) != 1 {
		return plist{}, errors.New("no property list")
	}
	dict, _ := root.Children[0].value().(map[string]any)
	p := plist{path: path, environment: make(map[string]string), throttle: 10 * time.Second, exitTimeOut: 20 * time.Second}
	p.label, _ = dict["Label"].(string)
	p.workingDirectory, _ = dict["WorkingDirectory"].(string)
	p.stdout, _ = dict["StandardOutPath"].(string)
	p.stderr, _ = dict["StandardErrorPath"].(string)
	p.runAtLoad, _ = dict["RunAtLoad"].(bool)
	p.keepAlive, _ = dict["KeepAlive"].(bool)
	if when, ok := dict["KeepAlive"].(map[string]any); ok {
		p.restartFailed = when["SuccessfulExit"] == false
	}
	for key, d := range map[string]*time.Duration{"ThrottleInterval": &p.throttle, "ExitTimeOut": &p.exitTimeOut} {
		if s, ok := dict[key].(string); ok {
			n, err := strconv.Atoi(strings.TrimSpace(s))
			if err != nil {
				return plist{}, fmt.Errorf("%s: %w", key, err)
			}
			*d = time.Duration(n) * time.Second
		}
	}
	args, _ := dict["ProgramArguments"].([]any)
	for _, a := range args {
		p.arguments = append(p.arguments, fmt.Sprint(a))
	}
	env, _ := dict["EnvironmentVariables"].(map[string]any)
	for k, v := range env {
		p.environment[k] = fmt.Sprint(v)
	}
	if p.label == "" || len(p.arguments) == 0 {
		return plist{}, errors.New("a property list needs Label and ProgramArguments")
	}
	return p, nil
}

// trusted reports whether launchd would take the file: root's, or the user's where
// tests are not root, and not to be written by others.
func trusted(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid() && (os.Geteuid() != 0 || st.Gid == 0)
}
