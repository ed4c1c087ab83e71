package wire

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/ankacluster/ankacluster/internal/spelling"
)

// lenient are the beginnings of the User-Agent of the existing clients and of the
// libraries that they are made with: Go (GitLab executor, exporter, our agents),
// Java (Jenkins, TeamCity), Python, and node (GitHub action, MCP server). They may
// send fields that were never documented, and each of them is to go on working.
var lenient = []string{"Go-http-client/", "Apache-HttpClient/", "Java/", "Java-http-client/", "okhttp/",
	"python-requests/", "Python-urllib/", "axios/", "node", "undici", "actions/", "anka"}

// Strict reports whether the caller is held to the names of fields and parameters:
// a person with curl who mistypes one learns of it. The existing clients are not,
// nor is a caller that does not say what it is.
func Strict(r *http.Request) bool {
	agent := r.UserAgent()
	return agent != "" && !slices.ContainsFunc(lenient, func(begin string) bool {
		return len(agent) >= len(begin) && strings.EqualFold(agent[:len(begin)], begin)
	})
}

// CheckQuery refuses parameters that a call does not take, from callers that are
// held to their names.
func CheckQuery(r *http.Request, takes ...string) error {
	if r.URL.RawQuery == "" || !Strict(r) {
		return nil
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return BadRequest("malformed query: %v", err)
	}
	for name := range q {
		if slices.Contains(takes, name) {
			continue
		}
		switch near := spelling.Nearest(name, slices.Values(takes)); {
		case near != "":
			return BadRequest("unknown parameter %q; is %q meant?", name, near)
		case len(takes) == 0:
			return BadRequest("unknown parameter %q: this call takes none", name)
		}
		return BadRequest("unknown parameter %q: this call takes %s", name, strings.Join(takes, ", "))
	}
	return nil
}

// Taking is h for a call that takes these parameters and no other.
func Taking(h HandlerFunc, takes ...string) HandlerFunc {
	return func(r *http.Request) (any, error) {
		if err := CheckQuery(r, takes...); err != nil {
			return nil, err
		}
		return h(r)
	}
}

// unknownField returns the first name in JSON that the type it was decoded into does
// not have. encoding/json refuses such names too, by an error that is text only.
func unknownField(data []byte, t reflect.Type) (name string, unknown bool) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return "", false
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		var items []json.RawMessage
		if json.Unmarshal(data, &items) != nil {
			return "", false // bytes in base64
		}
		for _, item := range items {
			if name, unknown := unknownField(item, t.Elem()); unknown {
				return name, true
			}
		}
	case reflect.Struct:
		dec := json.NewDecoder(bytes.NewReader(data))
		if open, err := dec.Token(); err != nil || open != json.Delim('{') {
			return "", false // null
		}
		for dec.More() {
			key, _ := dec.Token()
			var value json.RawMessage
			if dec.Decode(&value) != nil {
				return "", false
			}
			name, _ := key.(string)
			field, ok := fieldOf(t, name)
			if !ok {
				return name, true
			}
			if name, unknown := unknownField(value, field); unknown {
				return name, true
			}
		}
	}
	return "", false
}

// fieldOf returns the type of a struct's field by its name in JSON, in which case
// does not count.
func fieldOf(t reflect.Type, name string) (reflect.Type, bool) {
	for f := range t.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag == "" && f.Anonymous:
			if of, ok := fieldOf(f.Type, name); ok {
				return of, true
			}
		case tag != "-" && f.IsExported() && strings.EqualFold(cmp.Or(tag, f.Name), name):
			return f.Type, true
		}
	}
	return nil, false
}

// fieldError names the field that was probably meant.
func fieldError(name string, of reflect.Type) error {
	if near := spelling.Nearest(name, slices.Values(fieldNames(of, nil))); near != "" {
		return BadRequest("unknown field %q; is %q meant?", name, near)
	}
	return BadRequest("unknown field %q", name)
}

// fieldNames lists the JSON names of a type's fields, and of those below them.
func fieldNames(t reflect.Type, names []string) []string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return fieldNames(t.Elem(), names)
	case reflect.Struct:
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "" && name != "-" && !slices.Contains(names, name) {
				names = fieldNames(f.Type, append(names, name))
			}
		}
	}
	return names
}
