package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/termstyle"
)

func logsCommand() *cli.Command {
	return &cli.Command{
		Name:  "logs",
		Usage: "show the agent's log, or that of the hypervisor's commands",
		Description: `Example:
   sudo ankacluster logs --lines 50
   sudo ankacluster logs --commands --follow`,
		Flags: append(placeFlags(),
			&cli.BoolFlag{Name: "commands", Usage: "show every command of the hypervisor with its duration and result", DisableDefaultText: true},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"F"}, Usage: "go on with what is written from now on", DisableDefaultText: true},
			&cli.BoolFlag{Name: "raw", Usage: "print the lines as they are, JSON", DisableDefaultText: true},
			&cli.StringFlag{Name: "lines", DefaultText: "100", Usage: "begin with the last `N` lines"},
		),
		Action: logsAction,
	}
}

func logsAction(c *cli.Context) error {
	dir, err := joinedDir(c)
	if err != nil {
		return err
	}
	lines := 100
	if c.IsSet("lines") {
		if _, err := fmt.Sscan(c.String("lines"), &lines); err != nil || lines < 0 {
			return usagef("--lines %q is not a whole number", c.String("lines"))
		}
	}
	path := dir.LogFile()
	if c.Bool("commands") {
		path = dir.CommandLogFile()
	}
	f, err := os.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return hintf(fmt.Errorf("there is no log yet at %s", path), "the agent writes it once it runs; see ankacluster status")
	case errors.Is(err, os.ErrPermission):
		return hintf(err, "use sudo")
	case err != nil:
		return err
	}
	defer f.Close()
	show := func(line string) { fmt.Fprintln(c.App.Writer, line) }
	if !c.Bool("raw") {
		show = func(line string) { fmt.Fprintln(c.App.Writer, readable(line)) }
	}
	if err := lastLines(f, lines, show); err != nil {
		return err
	}
	if c.Bool("follow") {
		return follow(c.Context, path, f, show)
	}
	return nil
}

// tailBytes is how much of the end of a log is looked at for its last lines.
const tailBytes = 4 << 20

// lastLines shows the last n lines of f and leaves f at its end.
func lastLines(f *os.File, n int, show func(string)) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	begin := max(0, end-tailBytes)
	data := make([]byte, end-begin)
	if _, err := f.ReadAt(data, begin); err != nil && err != io.EOF {
		return err
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	if begin > 0 {
		lines = lines[1:] // the first is cut
	}
	for _, line := range lines[max(0, len(lines)-n):] {
		if line != "" {
			show(line)
		}
	}
	return nil
}

// follow shows what is appended, also over a rotation, until ctx ends.
func follow(ctx context.Context, path string, f *os.File, show func(string)) error {
	r := bufio.NewReader(f)
	partial := ""
	for {
		line, err := r.ReadString('\n')
		partial += line
		if err == nil {
			show(strings.TrimRight(partial, "\n"))
			partial = ""
			continue
		}
		if err != io.EOF {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(300 * time.Millisecond):
		}
		if next, err := os.Open(path); err == nil {
			if rotated(f, next) {
				f, r = next, bufio.NewReader(next)
				defer next.Close()
				continue
			}
			next.Close()
		}
	}
}

func rotated(old, next *os.File) bool {
	a, errA := old.Stat()
	b, errB := next.Stat()
	return errA == nil && errB == nil && !os.SameFile(a, b)
}

// readable turns a line of JSON into one for people: time, level, message, and
// the fields by name.
func readable(line string) string {
	var fields map[string]any
	dec := json.NewDecoder(strings.NewReader(line))
	dec.UseNumber() // 5895489, not 5.895489e+06
	if dec.Decode(&fields) != nil {
		return termstyle.Printable(line)
	}
	take := func(key string) string {
		v, ok := fields[key]
		if !ok {
			return ""
		}
		delete(fields, key)
		return fmt.Sprint(v)
	}
	ts := take("ts")
	if t, err := time.Parse(time.RFC3339Nano, ts); err == nil {
		ts = t.Local().Format("2006-01-02 15:04:05.000")
	}
	out := fmt.Sprintf("%s %-5s %s", termstyle.Printable(ts), termstyle.Printable(take("level")), termstyle.Printable(take("msg")))
	take("node_id") // the same in every line
	keys := make([]string, 0, len(fields))
	for k := range fields {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		value := fmt.Sprint(fields[k])
		if value == "" || termstyle.Printable(value) != value || strings.ContainsAny(value, " \t\"") {
			value = fmt.Sprintf("%q", value)
		}
		out += " " + termstyle.Printable(k) + "=" + value
	}
	return out
}
