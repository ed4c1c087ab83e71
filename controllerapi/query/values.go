package query

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// units are what a number's letter stands for.
var units = map[string]float64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

// number reads a number, with K, M, G or T behind it if it counts bytes: 16G, 1.5T, 16GB.
func number(text string) (float64, error) {
	factor, digits := 1.0, strings.ToUpper(text)
	digits = strings.TrimSuffix(strings.TrimSuffix(digits, "IB"), "B")
	for unit, f := range units {
		if rest, ok := strings.CutSuffix(digits, unit); ok {
			factor, digits = f, rest
			break
		}
	}
	n, err := strconv.ParseFloat(digits, 64)
	if n *= factor; err != nil || math.IsNaN(n) || math.IsInf(n, 0) || strings.ContainsAny(digits, "XP_") {
		return 0, errors.New("it is not a number, such as 12, 0.5 or 16G")
	}
	return n, nil
}

// duration reads an age: 90s, 5m, 1h30m, 2d, 1w.
func duration(text string) (time.Duration, error) {
	for unit, hours := range map[string]float64{"d": 24, "w": 7 * 24} {
		if digits, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.ParseUint(digits, 10, 13) // more do not fit into a Duration
			if err == nil {
				return time.Duration(float64(n) * hours * float64(time.Hour)), nil
			}
		}
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil && strings.ContainsAny(text, "0123456789") {
		return 0, errors.New("a time needs a unit, as in " + cut(text) + "s or " + cut(text) + "m")
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, errors.New("it is not a time, such as 90s, 5m, 2h, 3d or 1w")
	}
	return d, nil
}

// matches reports whether the pattern is the whole text, without regard to case. A * is
// any letters or none. Its time is bounded by the product of both lengths.
func matches(pattern, text string) bool {
	if !strings.Contains(pattern, "*") {
		return strings.EqualFold(pattern, text)
	}
	parts := strings.Split(strings.ToLower(pattern), "*")
	text = strings.ToLower(text)
	text, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, ok := strings.Cut(text, part)
		if !ok {
			return false
		}
		text = after
	}
	return strings.HasSuffix(text, last)
}
