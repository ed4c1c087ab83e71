package wire

import (
	"reflect"
	"strconv"
	"strings"
)

// Types of requests say in tags how long their fields may be, in bytes:
//
//	Name     string            `json:"name" max:"256"`
//	Tags     []string          `json:"tags" max:"128"` // each of them
//	Metadata map[string]any    `json:"metadata" max:"16384"` // all of it together
//
// A string whose field says nothing may have defaultLength.
const defaultLength = 4 << 10

// checkFields reports the first field of v that is longer than its type allows.
func checkFields(v reflect.Value) error { return checkField(v, "", defaultLength) }

func checkField(v reflect.Value, name string, most int) error {
	switch v.Kind() {
	case reflect.String:
		return checkLength(name, v.Len(), most)
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return checkField(v.Elem(), name, most)
		}
	case reflect.Slice:
		if k := v.Type().Elem().Kind(); k == reflect.Uint8 {
			return nil // raw: whoever reads it bounds it
		}
		for i := range v.Len() {
			if err := checkField(v.Index(i), name, most); err != nil {
				return err
			}
		}
	case reflect.Map:
		size := 0
		for it := v.MapRange(); it.Next(); {
			size += sizeOf(it.Key()) + sizeOf(it.Value())
		}
		return checkLength(name, size, most)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			most, field := defaultLength, name
			if text, ok := f.Tag.Lookup("max"); ok {
				most, _ = strconv.Atoi(text) // held by a test of the types
			}
			if own, _, _ := strings.Cut(f.Tag.Get("json"), ","); own != "" {
				field = strings.TrimPrefix(name+"."+own, ".")
			}
			if err := checkField(v.Field(i), field, most); err != nil {
				return err
			}
		}
	}
	return nil
}

// sizeOf is what a key or value of a map counts.
func sizeOf(v reflect.Value) int {
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		return v.Len()
	case reflect.Map, reflect.Slice, reflect.Struct:
		return defaultLength // no request has such a map
	}
	return 8
}

func checkLength(name string, got, most int) error {
	if got <= most {
		return nil
	}
	if name == "" {
		name = "the body"
	}
	return Failf("%s has %d bytes: it must have at most %d", name, got, most)
}
