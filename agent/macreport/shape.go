package macreport

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// shape is the form of a JSON value: for each path in it, the kind of what stands
// there. Elements of a list share a path.
type shape map[string]string

// shapeOf reads all values of an output, such as progress and the answer.
func shapeOf(out []byte) (shape, error) {
	s := make(shape)
	dec := json.NewDecoder(bytes.NewReader(out))
	for dec.More() {
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		s.add("", v)
	}
	return s, nil
}

func (s shape) add(path string, v any) {
	kind := "null"
	switch v := v.(type) {
	case map[string]any:
		kind = "object"
		for key, value := range v {
			s.add(path+"."+key, value)
		}
	case []any:
		kind = "list"
		for _, value := range v {
			s.add(path+"[]", value)
		}
	case string:
		kind = "text"
	case float64:
		kind = "number"
	case bool:
		kind = "bool"
	}
	if old, ok := s[path]; ok && old != kind && !strings.Contains(old, kind) {
		kind = old + " or " + kind
	}
	s[path] = kind
}

// Differences compares the report of a real Mac with that of the stand-ins: where
// a command ended otherwise, or the answer of the one has not the form of the
// other's. What the real command tells beyond the stand-in's is no difference: the
// agent reads what it knows. Steps are paired by the names that they were given.
func Differences(real, fake string) ([]string, error) {
	realSteps, err1 := Read(real)
	fakeSteps, err2 := Read(fake)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	byName := make(map[string]Step)
	for _, s := range fakeSteps {
		byName[plain(s.Name)] = s
	}
	var found []string
	for _, r := range realSteps {
		f, ok := byName[plain(r.Name)]
		if !ok || r.Error != "" || f.Error != "" {
			continue // one of the two has no such command
		}
		if (r.ExitCode == 0) != (f.ExitCode == 0) {
			found = append(found, fmt.Sprintf("%s: ended with %d, and the stand-in with %d", r.Name, r.ExitCode, f.ExitCode))
		}
		want, err := shapeOf(output(real, r))
		if err != nil {
			continue // no JSON: a text for people
		}
		got, err := shapeOf(output(fake, f))
		if err != nil {
			found = append(found, fmt.Sprintf("%s: the stand-in answers no JSON", r.Name))
			continue
		}
		for _, path := range slices.Sorted(maps.Keys(got)) {
			switch kind, ok := want[path]; {
			case !ok:
				found = append(found, fmt.Sprintf("%s: the stand-in has %s, which the real answer has not", r.Name, path))
			case kind != got[path] && !strings.Contains(kind, got[path]):
				found = append(found, fmt.Sprintf("%s: %s is %s, and the stand-in's is %s", r.Name, path, kind, got[path]))
			}
		}
	}
	return found, nil
}

// plain is a step's name without its number.
func plain(name string) string {
	_, rest, _ := strings.Cut(name, "-")
	return rest
}

func output(dir string, s Step) []byte {
	data, err := os.ReadFile(filepath.Join(dir, s.Name+".stdout"))
	if err != nil {
		return nil // it printed nothing
	}
	return data
}
