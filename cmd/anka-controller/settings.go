package main

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

// setting is one thing that can be set: by its environment variable and, unless
// it is a secret, by the flag of the same name (ANKA_DATA_DIR is --data-dir).
type setting struct {
	env     string
	aliases []string // further variables with the same meaning
	group   string
	usage   string
	def     string
	isBool  bool
	isPath  bool // a service is given it as an absolute path: it starts elsewhere
	secret  bool // environment only: flags are in every process list
	hidden  bool // accepted, without effect; left out of the short help
	parse   func(string) error
}

// flag returns the name without dashes, or "" for a secret.
func (s setting) flag() string {
	if s.secret {
		return ""
	}
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(s.env, "ANKA_")), "_", "-")
}

// source says where a value came from, for messages.
type source struct {
	name  string // --flag or variable
	value string
}

// load fills the settings bound to table: a flag wins over the variable, and the
// variable over the default. It returns every problem, and which settings were
// given at all.
func load(table []setting, flagValue func(name string) (string, bool), lookupEnv func(string) (string, bool)) (given map[string]source, errs []error) {
	given = make(map[string]source)
	for _, s := range table {
		src, ok := source{}, false
		if s.flag() != "" {
			if v, set := flagValue(s.flag()); set {
				src, ok = source{"--" + s.flag(), v}, true
			}
		}
		for _, name := range append([]string{s.env}, s.aliases...) {
			if v, set := lookupEnv(name); !ok && set && v != "" {
				src, ok = source{name, v}, true
			}
		}
		value := s.def
		if ok {
			given[s.env] = src
			value = src.value
		}
		if value == "" {
			continue
		}
		if err := s.parse(value); err != nil {
			if s.secret {
				errs = append(errs, fmt.Errorf("%s: %w", src.name, err))
			} else {
				errs = append(errs, fmt.Errorf("%s %q: %w", src.name, value, err))
			}
		}
	}
	return given, errs
}

// The kinds of values. Each returns a parser that stores into its argument.

func text(p *string) func(string) error {
	return func(s string) error { *p = s; return nil }
}

func boolean(p *bool) func(string) error {
	return func(s string) (err error) {
		if *p, err = strconv.ParseBool(s); err != nil {
			return fmt.Errorf("must be true or false")
		}
		return nil
	}
}

func duration(p *time.Duration) func(string) error {
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

func number(p *int, low, high int) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return fmt.Errorf("must be a whole number from %d to %d", low, high)
		}
		*p = n
		return nil
	}
}

func list(p *[]string) func(string) error {
	return func(s string) error {
		*p = nil
		for v := range strings.SplitSeq(s, ",") {
			if v = strings.TrimSpace(v); v != "" {
				*p = append(*p, v)
			}
		}
		return nil
	}
}

func oneOf(p *string, words ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("must be one of %s", strings.Join(words, ", "))
		}
		*p = s
		return nil
	}
}

func httpURL(p *string) func(string) error {
	return func(s string) error {
		if err := checkURL(s); err != nil {
			return err
		}
		*p = strings.TrimRight(s, "/")
		return nil
	}
}

func httpURLs(p *[]string) func(string) error {
	return func(s string) error {
		if err := list(p)(s); err != nil {
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

// listenAddr reads [HOST]:PORT.
func listenAddr(p *string) func(string) error {
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

// noEffect accepts a setting of existing configurations that has no meaning here.
func noEffect(string) error { return nil }

func rootToken(p *string) func(string) error {
	return func(s string) error {
		if len(s) < 10 {
			return fmt.Errorf("must have 10 characters or more")
		}
		*p = s
		return nil
	}
}

func metricsPath(p *string) func(string) error {
	return func(s string) error {
		if !strings.HasPrefix(s, "/") || strings.ContainsAny(s, " {}") {
			return fmt.Errorf("must begin with / and hold no spaces or braces")
		}
		*p = s
		return nil
	}
}
