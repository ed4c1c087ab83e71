package fakelaunchctl

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// state is the word of print for what the job does.
func (j *job) state() string {
	switch {
	case j.cmd != nil && j.leaving:
		return "SIGTERMed"
	case j.cmd != nil:
		return "running"
	case j.pause != nil && j.l.opts.Form == "10.10":
		return "waiting"
	case j.pause != nil:
		return "spawn scheduled"
	}
	return "not running"
}

// print writes a job in the form of one of four releases. The keys, their order and
// the blocks with keys of the same names are those that users have shown.
func (l *Launchd) print(target string) Reply {
	label, j := l.find(target)
	if j == nil {
		where := "for system"
		if l.opts.Form == "10.10" {
			where = "for system domain"
		}
		return failed(113, "Could not find service %q in domain %s", label, where)
	}
	form, p := l.opts.Form, j.plist
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "\t"+format+"\n", args...) }
	block := func(name string, lines ...string) {
		line("%s = {", name)
		for _, s := range lines {
			line("\t%s", s)
		}
		line("}")
		b.WriteByte('\n')
	}
	name := "system/" + label
	if form == "10.10" {
		name = label
	}
	fmt.Fprintf(&b, "%s = {\n", name)
	active := 0
	if j.cmd != nil {
		active = 1
	}
	line("active count = %d", active)
	line("path = %s", p.path)
	if form != "10.10" {
		line("type = LaunchDaemon")
	}
	line("state = %s", j.state())
	b.WriteByte('\n')
	line("program = %s", p.arguments[0])
	block("arguments", p.arguments...)
	line("working directory = %s", p.workingDirectory)
	b.WriteByte('\n')
	line("stdout path = %s", p.stdout)
	line("stderr path = %s", p.stderr)
	block("default environment", "PATH => /usr/bin:/bin:/usr/sbin:/sbin")
	var env []string
	for _, k := range slices.Sorted(maps.Keys(p.environment)) {
		env = append(env, k+" => "+p.environment[k])
	}
	block("environment", append(env, "XPC_SERVICE_NAME => "+label)...)
	if form == "10.10" {
		line("domain = com.apple.xpc.launchd.domain.system")
	} else {
		line("domain = system")
	}
	line("minimum runtime = %d", int(j.throttle().Round(time.Second)/time.Second))
	line("exit timeout = %d", int(j.exitTimeOut().Round(time.Second)/time.Second))
	line("runs = %d", j.runs)
	if form == "10.10" {
		line("successive crashes = 0")
	}
	if j.cmd != nil {
		line("pid = %d", j.cmd.Process.Pid)
		line("immediate reason = speculative")
	}
	line("forks = 0")
	line("execs = 1")
	if j.last == "" {
		line("last exit code = (never exited)")
	} else {
		line("%s", j.last)
	}
	b.WriteByte('\n')
	if form == "" || form == "13" {
		for _, kind := range []string{"resource", "jetsam"} {
			block(kind+" coalition", "ID = 2814", "type = "+kind, "state = active", "active count = 1", "name = "+label)
		}
	}
	line("spawn type = interactive (4)")
	line("properties = runatload | inferred program")
	b.WriteString("}\n")
	return Reply{Stdout: b.String()}
}

func (l *Launchd) printDisabled() string {
	off, on := "disabled", "enabled"
	if l.opts.Form != "" {
		off, on = "true", "false"
	}
	var b strings.Builder
	b.WriteString("\n\tdisabled services = {\n\t\t\"com.apple.ftpd\" => " + off + "\n")
	for _, label := range slices.Sorted(maps.Keys(l.disabled)) {
		word := on
		if l.disabled[label] {
			word = off
		}
		fmt.Fprintf(&b, "\t\t%q => %s\n", label, word)
	}
	b.WriteString("\t}\n")
	return b.String()
}

func (l *Launchd) list() string {
	var b strings.Builder
	b.WriteString("PID\tStatus\tLabel\n")
	for _, label := range slices.Sorted(maps.Keys(l.jobs)) {
		pid := "-"
		if j := l.jobs[label]; j.cmd != nil {
			pid = fmt.Sprint(j.cmd.Process.Pid)
		}
		fmt.Fprintf(&b, "%s\t0\t%s\n", pid, label)
	}
	return b.String()
}
