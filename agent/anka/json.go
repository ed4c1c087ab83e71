package anka

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// answer is what `anka -j` prints.
type answer struct {
	Status        string          `json:"status"`
	Message       string          `json:"message"`
	Code          int             `json:"-"`
	RawCode       json.RawMessage `json:"code"`
	ExceptionType string          `json:"exception_type"`
	Body          json.RawMessage `json:"body"`
}

// parseAnswer finds the answer in what a command printed. Warnings of the
// system's libraries may stand before it or after it; the last object that has
// a status word wins. ok is false when there is none.
func parseAnswer(out []byte) (a answer, ok bool) {
	if a, ok := decodeAnswer(bytes.TrimSpace(out)); ok {
		return a, true
	}
	// The object may span lines, so that a search by line is not enough: try
	// every line that begins one, from the last, and let the decoder find its end.
	for end := len(out); end > 0; {
		begin := bytes.LastIndexByte(out[:end], '\n') + 1
		if line := bytes.TrimLeft(out[begin:], " \t\r"); len(line) > 0 && line[0] == '{' {
			if a, ok := decodeAnswer(line); ok {
				return a, true
			}
		}
		end = begin - 1
	}
	return answer{}, false
}

func decodeAnswer(data []byte) (answer, bool) {
	if len(data) == 0 || data[0] != '{' {
		return answer{}, false
	}
	var a answer
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&a); err != nil || a.Status == "" {
		return answer{}, false
	}
	a.Code = flexInt(a.RawCode)
	return a, true
}

// object is a JSON object of which every field may have any type, or be absent:
// versions of anka differ, and a field that surprises us must not hide a VM.
type object map[string]json.RawMessage

// decodeObjects reads an array of objects, or one object as an array of one.
// Elements that are no objects are left out.
func decodeObjects(body json.RawMessage) []object {
	var elements []json.RawMessage
	if json.Unmarshal(body, &elements) != nil {
		elements = []json.RawMessage{body}
	}
	var objects []object
	for _, e := range elements {
		var o object
		if json.Unmarshal(e, &o) == nil && o != nil {
			objects = append(objects, o)
		}
	}
	return objects
}

func (o object) text(key string) string { return flexText(o[key]) }
func (o object) number(key string) int  { return flexInt(o[key]) }

func (o object) time(key string) time.Time {
	s := o.text(key)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999", "2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	if n := flexInt(o[key]); n > 0 {
		return time.Unix(int64(n), 0).UTC()
	}
	return time.Time{}
}

// megabytes reads a size of memory: "4G", "4096M", or bytes as a number. Bare
// numbers below 1 MB are taken as MB: some versions print them so.
func (o object) megabytes(key string) int {
	s := strings.TrimSpace(o.text(key))
	if s == "" {
		return 0
	}
	unit := strings.ToUpper(strings.TrimRight(strings.TrimLeft(s, "0123456789."), "iBb "))
	f, err := strconv.ParseFloat(strings.TrimRight(s, "TtGgMmKkiBb "), 64)
	if err != nil || f < 0 || f > math.MaxInt32*float64(1<<20) || math.IsNaN(f) {
		return 0
	}
	switch unit {
	case "T":
		return int(f * 1024 * 1024)
	case "G":
		return int(f * 1024)
	case "M":
		return int(f)
	case "K":
		return int(f / 1024)
	}
	if f < 1<<20 {
		return int(f)
	}
	return int(f / (1 << 20))
}

func flexText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var n json.Number
	if json.Unmarshal(raw, &n) == nil {
		return n.String()
	}
	return ""
}

func flexInt(raw json.RawMessage) int {
	f, err := strconv.ParseFloat(strings.TrimSpace(flexText(raw)), 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > math.MaxInt32*float64(1<<20) {
		return 0
	}
	return int(f)
}
