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

// maxTries bounds how often an object is looked for within a line: beyond that one
// begins at the start of a line, or not at all.
const maxTries = 1000

// parseAnswer finds the answer in what a command printed: the last object that
// has a status word. Progress objects and warnings of the system's libraries may
// stand before it, or after it. ok is false when there is none.
func parseAnswer(out []byte) (a answer, ok bool) {
	// An object may span lines, and one may follow another without an end of line.
	// Wherever one may begin, the decoder finds its end.
	tries := 0
	for begin := 0; begin < len(out); {
		next := bytes.IndexByte(out[begin:], '{')
		if next < 0 {
			break
		}
		begin += next
		found, size := decodeAnswer(out[begin:])
		// A row of a list that was cut short has a status too, in small letters.
		if found.Status != "" && found.Status == strings.ToUpper(found.Status) {
			a, ok = found, true
		}
		begin += max(size, 1)
		if tries++; size == 0 && tries > maxTries {
			if eol := bytes.IndexByte(out[begin:], '\n'); eol >= 0 {
				begin += eol
			} else {
				break
			}
		}
	}
	return a, ok
}

// decodeAnswer reads the object that data begins with. size is its length, 0 when
// it is none.
func decodeAnswer(data []byte) (a answer, size int) {
	dec := json.NewDecoder(bytes.NewReader(data))
	var raw json.RawMessage
	if dec.Decode(&raw) != nil {
		return answer{}, 0
	}
	size = int(dec.InputOffset())
	if json.Unmarshal(raw, &a) != nil {
		return answer{}, size
	}
	a.Code = flexInt(a.RawCode)
	return a, size
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

// bytes reads a size that may be larger than an int is trusted with.
func (o object) bytes(key string) (uint64, bool) {
	f, err := strconv.ParseFloat(o.text(key), 64)
	if err != nil || f < 0 || f > 1<<60 || math.IsNaN(f) {
		return 0, false
	}
	return uint64(f), true
}

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
