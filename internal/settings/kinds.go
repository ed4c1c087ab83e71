package settings

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The kinds of values. Each returns a parser that stores into its argument.

func Text(p *string) func(string) error {
	return func(s string) error { *p = s; return nil }
}

func Bool(p *bool) func(string) error {
	return func(s string) (err error) {
		if *p, err = strconv.ParseBool(s); err != nil {
			return fmt.Errorf("must be true or false")
		}
		return nil
	}
}

func Duration(p *time.Duration) func(string) error {
	return func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil {
			if _, nerr := strconv.ParseFloat(s, 64); nerr == nil {
				return fmt.Errorf("the unit is missing, e.g. %ss or %sm", s, s)
			}
			return fmt.Errorf("must be a duration such as 30s, 5m or 1h")
		}
		if d < 0 {
			return fmt.Errorf("must not be negative")
		}
		*p = d
		return nil
	}
}

func Number(p *int, low, high int) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return fmt.Errorf("must be a whole number from %d to %d", low, high)
		}
		*p = n
		return nil
	}
}

// List splits at commas and spaces.
func List(p *[]string) func(string) error {
	return func(s string) error {
		*p = strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
		return nil
	}
}

func OneOf(p *string, words ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("must be one of %s", strings.Join(words, ", "))
		}
		*p = s
		return nil
	}
}

func HTTPURL(p *string) func(string) error {
	return func(s string) error {
		if err := checkURL(s); err != nil {
			return err
		}
		*p = strings.TrimRight(s, "/")
		return nil
	}
}

func HTTPURLs(p *[]string) func(string) error {
	return func(s string) error {
		if err := List(p)(s); err != nil {
			return err
		}
		for i, u := range *p {
			if err := checkURL(u); err != nil {
				return err
			}
			(*p)[i] = strings.TrimRight(u, "/")
		}
		return nil
	}
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return fmt.Errorf("must be a URL such as http://10.0.1.4:8089")
	}
	if u.User != nil {
		return fmt.Errorf("must not carry a user name or password")
	}
	return nil
}

// ListenAddr reads [HOST]:PORT.
func ListenAddr(p *string) func(string) error {
	return func(s string) error {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return fmt.Errorf("must be :PORT or ADDRESS:PORT, e.g. :8090")
		}
		if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
			return fmt.Errorf("the port must be a number from 0 to 65535")
		}
		if host != "" && host != "localhost" {
			if _, err := netip.ParseAddr(host); err != nil {
				return fmt.Errorf("the address must be an IP address of this machine, or empty for all")
			}
		}
		*p = s
		return nil
	}
}

func MetricsPath(p *string) func(string) error {
	return func(s string) error {
		if !strings.HasPrefix(s, "/") || strings.ContainsAny(s, " {}") {
			return fmt.Errorf("must begin with / and hold no spaces or braces")
		}
		*p = s
		return nil
	}
}

// Size reads a number of bytes, see ParseSize.
func Size(p *int64) func(string) error {
	return func(s string) (err error) { *p, err = ParseSize(s); return err }
}

// ParseSize reads a size: a number with KiB, MiB, GiB, TiB, KB, MB, GB, TB or
// nothing behind it.
func ParseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "kKmMgGtTiIbB ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size such as 500GiB", s)
	}
	units := map[string]int64{"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
	unit, ok := units[strings.ToLower(strings.TrimSpace(s[len(digits):]))]
	if !ok || n > (1<<62)/unit {
		return 0, fmt.Errorf("%q is not a size such as 500GiB", s)
	}
	return n * unit, nil
}
