package main

import (
	"strings"
)

// options is a parsed command line.
type options struct {
	flags map[string][]string
	args  []string
}

func (o options) has(name string) bool { return len(o.flags[name]) > 0 }

func (o options) value(name string) string {
	if v := o.flags[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// parse reads args by a list such as "f,force t,tag=": the names of an option, and
// "=" where a value follows; options are kept by the last of their names. They
// may stand anywhere, as with the real command, unless lead is set: then the
// first argument ends them.
func parse(list string, args []string, lead bool) (options, error) {
	takesValue, long := make(map[string]bool), make(map[string]string)
	for spec := range strings.FieldsSeq(list) {
		names := strings.Split(strings.TrimSuffix(spec, "="), ",")
		name := names[len(names)-1]
		for _, n := range names {
			long[n] = name
		}
		takesValue[name] = strings.HasSuffix(spec, "=")
	}
	o := options{flags: make(map[string][]string)}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" || !strings.HasPrefix(arg, "-") || arg == "-" {
			if arg != "--" {
				o.args = append(o.args, arg)
			}
			if lead || arg == "--" {
				o.args = append(o.args, args...)
				return o, nil
			}
			continue
		}
		key, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !strings.HasPrefix(arg, "--") && len(arg) > 2 { // -o2
			key, value, hasValue = arg[1:2], arg[2:], true
		}
		name, ok := long[key]
		if !ok {
			return o, &ankaError{Message: "no such option: " + arg, Type: "UsageError", exit: 2}
		}
		if takesValue[name] && !hasValue {
			if len(args) == 0 {
				return o, &ankaError{Message: arg + " needs a value", Type: "UsageError", exit: 2}
			}
			value, args = args[0], args[1:]
		}
		o.flags[name] = append(o.flags[name], value)
	}
	return o, nil
}
