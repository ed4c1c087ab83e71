package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

func listVMs(_ context.Context, e *env, o options) (any, error) {
	fields, err := listFields(o)
	if err != nil {
		return nil, err
	}
	list, err := e.store.all()
	if err != nil {
		return nil, err
	}
	out := []any{}
	add := func(v *vm, tag string) {
		row := e.show(v, &v.Image, tag)
		if tag != v.Version {
			row["status"] = "stopped"
		}
		if tag == "" {
			delete(row, "version")
		}
		kept := map[string]any{}
		for _, f := range fields {
			if value, ok := row[f]; ok {
				kept[f] = value
			} else if f == "ip" {
				kept[f] = ""
			} else if f == "vnc_port" {
				kept[f] = 0
			}
		}
		out = append(out, kept)
	}
	for _, v := range list {
		status := e.store.status(v)
		if len(o.args) > 0 && !contains(o.args, v.UUID) && !contains(o.args, v.Name) {
			continue
		}
		if o.has("running") && status != "running" || o.has("stopped") && status == "running" {
			continue
		}
		add(v, v.Version)
		if !o.has("all") || unknown("one-row") {
			continue
		}
		for tag := range v.Tags { // cached tags beside the current one
			if tag != v.Version {
				add(v, tag)
			}
		}
	}
	return out, nil
}

// listFields are the columns asked for. More than one in a --field came with 3.7.
func listFields(o options) ([]string, error) {
	if !o.has("field") {
		return []string{"name", "uuid", "creation_date", "version", "status"}, nil
	}
	fields := o.flags["field"]
	if atLeast(versionNumber(), "3.7") {
		fields = strings.Split(strings.Join(fields, ","), ",")
	}
	known := []string{"name", "uuid", "creation_date", "version", "status", "access_date", "ip", "vnc_port", "cpu_cores", "ram_size", "start_date"}
	for _, f := range fields {
		if !contains(known, f) || unknown("list-fields") && contains(known[8:], f) {
			return nil, failf("list: there is no field %q", f)
		}
	}
	return fields, nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// one finds the VM that the first argument names.
func (e *env) one(o options) (*vm, error) {
	if len(o.args) == 0 {
		return nil, &ankaError{Message: "missing argument VM_ID", Type: "UsageError", exit: 2}
	}
	return e.store.find(o.args[0])
}

func showVM(_ context.Context, e *env, o options) (any, error) {
	if len(o.args) > 1 && strings.HasPrefix(o.args[1], "-") { // show VM -t TAG
		more, err := e.parse("show", o.args[1:], false)
		if err != nil {
			return nil, err
		}
		o.args, o.flags = append(o.args[:1:1], more.args...), more.flags
	}
	v, err := e.one(o)
	if err != nil {
		return nil, err
	}
	im := &v.Image
	version := v.Version
	if tag := o.value("tag"); tag != "" {
		if im = v.Tags[tag]; im == nil {
			return nil, notFound(v.Name + " tag " + tag)
		}
		version = tag
	}
	body := e.show(v, im, version)
	if len(o.args) == 1 {
		return body, nil
	}
	sub := o.args[1]
	if _, err := e.parse("show "+sub, o.args[2:], false); err != nil {
		return nil, err
	}
	switch sub {
	case "name", "uuid":
		return body[sub], nil
	case "tag":
		rows := []any{}
		for _, tag := range slices.Sorted(maps.Keys(v.Tags)) {
			rows = append(rows, map[string]any{"tag": tag, "creation_date": v.Created, "last_access": now()})
		}
		return rows, nil
	case "description":
		return im.Description, nil
	case "cpu":
		return map[string]any{"cores": v.CPU}, nil
	case "ram":
		return v.RAM, nil
	case "disk":
		return []any{map[string]any{"size": v.Disk, "image_size": imageSize(im)}}, nil
	case "network":
		return e.network(v), nil
	case "port":
		return e.network(v)["port_forwarding_rules"], nil
	case "display", "label", "mount":
		return []any{}, nil
	default:
		return nil, &ankaError{Message: "no such property: " + sub, Type: "UsageError", exit: 2}
	}
}

func (e *env) show(v *vm, im *image, version string) map[string]any {
	status := e.store.status(v)
	body := map[string]any{
		"uuid": v.UUID, "name": v.Name, "version": version, "creation_date": v.Created,
		"cpu_cores": v.CPU, "cpu_frequency": 0, "cpu_htt": false, "arch": 2, "ram": v.RAM, "ram_size": ramBytes(v.RAM),
		"frame_buffers": 1, "hard_drive": v.Disk, "encrypted": false, "image_size": imageSize(im),
		"addons_version": versionNumber(), "stop_date": v.Stopped, "status": status,
	}
	if status != "running" {
		return body
	}
	body["start_date"] = v.Started
	if !unknown("no-vnc") {
		body["vnc_port"] = 5900
	}
	started, err := time.Parse(time.RFC3339, v.Started)
	boot, _ := time.ParseDuration(os.Getenv("FAKEANKA_BOOT"))
	if err == nil && time.Since(started) >= boot {
		body["ip"] = v.ip()
	}
	rules := []any{}
	for _, p := range v.Ports {
		rules = append(rules, map[string]any{"guest_port": p.Guest, "host_port": p.Active, "protocol": p.Protocol, "name": p.Name})
	}
	body["port_forwarding"] = rules
	return body
}

func (e *env) network(v *vm) map[string]any {
	rules := []any{}
	for _, p := range v.Ports {
		r := map[string]any{"name": p.Name, "protocol": p.Protocol, "guest_port": p.Guest}
		if e.store.running(v) {
			r["host_port"] = p.Active
		}
		rules = append(rules, r)
	}
	return map[string]any{"mode": v.Network, "controller": "virtio-net", "mac_address": v.MAC, "port_forwarding_rules": rules}
}

// ip is stable for a VM and looks like one of the real command's network.
func (v *vm) ip() string {
	b, _ := hex.DecodeString(strings.ReplaceAll(v.UUID, "-", ""))
	last := byte(2)
	if len(b) > 0 {
		last = 2 + b[len(b)-1]%250
	}
	return "192.168.64." + strconv.Itoa(int(last))
}

func imageSize(im *image) int64 {
	var n int64
	for _, l := range im.Layers {
		n += l.Size
	}
	return n
}

// ramBytes reads 4G, 4096M or a number of bytes.
func ramBytes(s string) int64 {
	shift := 0
	switch {
	case strings.HasSuffix(s, "G"):
		shift = 30
	case strings.HasSuffix(s, "M"):
		shift = 20
	}
	n, err := strconv.ParseInt(strings.TrimRight(s, "GM"), 10, 64)
	if err != nil || n <= 0 {
		return 0
	}
	return n << shift
}

func cloneVM(_ context.Context, e *env, o options) (any, error) {
	unlock, err := e.store.lock("lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	src, err := e.one(o)
	if err != nil {
		return nil, err
	}
	im := &src.Image
	if tag := o.value("tag"); tag != "" {
		if im = src.Tags[tag]; im == nil {
			return nil, notFound(src.Name + " tag " + tag)
		}
	}
	names := o.args[1:]
	if len(names) == 0 {
		names = []string{src.Name + "-" + uuid.NewString()[:8]}
	}
	var body map[string]any
	for _, name := range names {
		if _, err := e.store.find(name); err == nil {
			return nil, &ankaError{Message: "VM name " + name + " is taken", Code: 18, Type: "VMNameTakenException"}
		}
		v := &vm{
			UUID: uuid.NewString(), Name: name, Image: *im, Created: now(), CPU: src.CPU, RAM: src.RAM, Disk: src.Disk,
			MAC: newMAC(), Network: src.Network, Ports: append([]port(nil), src.Ports...),
		}
		if err := e.store.save(v); err != nil {
			return nil, err
		}
		if err := e.store.unpack(v, im); err != nil {
			return nil, err
		}
		body = map[string]any{"uuid": v.UUID, "name": v.Name}
	}
	return body, nil
}

func newMAC() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails
	return fmt.Sprintf("02:76:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

func startVM(_ context.Context, e *env, o options) (any, error) {
	unlock, err := e.store.lock("lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	v, err := e.one(o)
	if err != nil {
		return nil, err
	}
	if v.Failed {
		return nil, failf("VM %s is in a failed state: stop it with --force", v.Name)
	}
	running := e.store.running(v)
	if running && !unknown("start-again") {
		return nil, failf("VM is already running")
	}
	if !running {
		if err := e.start(v); err != nil {
			return nil, err
		}
	}
	return e.show(v, &v.Image, v.Version), nil
}

// start launches v if the limit of running VMs allows. The lock is held.
func (e *env) start(v *vm) error {
	list, err := e.store.all()
	if err != nil {
		return err
	}
	running := 0
	for _, other := range list {
		if e.store.running(other) {
			running++
		}
	}
	if limit := envInt("FAKEANKA_MAX_RUNNING", 2); limit > 0 && running >= limit {
		return failf("Maximum number of running instances exceeded (%d)", limit)
	}
	if err := e.store.complete(&v.Image); err != nil {
		return err
	}
	if err := e.store.launch(v, e.vmFault); err != nil {
		return err
	}
	return e.store.save(v)
}

// each calls f for every VM named, or for all with --all.
func (e *env) each(o options, f func(*vm) error) error {
	if !o.has("all") {
		if _, err := e.one(o); err != nil {
			return err
		}
	}
	list, err := e.store.all()
	if err != nil {
		return err
	}
	done := make(map[string]bool)
	for _, v := range list {
		if o.has("all") || contains(o.args, v.UUID) || contains(o.args, v.Name) {
			done[v.UUID], done[v.Name] = true, true
			if err := f(v); err != nil {
				return err
			}
		}
	}
	for _, id := range o.args {
		if !done[id] {
			return notFound(id)
		}
	}
	return nil
}

// update changes the record of v as it is by now; one that was deleted
// meanwhile stays deleted.
func (s *store) update(v *vm, change func(*vm)) error {
	unlock, err := s.lock("lock")
	if err != nil {
		return err
	}
	defer unlock()
	cur, err := s.find(v.UUID)
	if err != nil {
		return err
	}
	change(cur)
	return s.save(cur)
}

func stopVM(_ context.Context, e *env, o options) (any, error) {
	return nil, e.each(o, func(v *vm) error {
		if err := e.store.halt(v, o.has("force")); err != nil {
			return err
		}
		return e.store.update(v, func(v *vm) { v.Stopped, v.Suspended = now(), false; v.Failed = v.Failed && !o.has("force") })
	})
}

// suspendVM stops the VM and lists it as suspended, as on arm64.
func suspendVM(_ context.Context, e *env, o options) (any, error) {
	return nil, e.each(o, func(v *vm) error {
		if !e.store.running(v) && !o.has("all") {
			return failf("VM %s is not running", v.Name)
		}
		if err := e.store.halt(v, false); err != nil {
			return err
		}
		return e.store.update(v, func(v *vm) { v.Stopped, v.Suspended = now(), true })
	})
}

func rebootVM(ctx context.Context, e *env, o options) (any, error) {
	v, err := e.one(o)
	if err != nil {
		return nil, err
	}
	if err := e.store.halt(v, o.has("force")); err != nil {
		return nil, err
	}
	return startVM(ctx, e, o)
}

// deleteVM deletes VMs or, with a tag, no more than that tag: a template whose
// last tag is deleted stays, and keeps what it runs on. From 3.9.1 on the space
// is freed in the background, here by the next command, and by --cache at once.
func deleteVM(_ context.Context, e *env, o options) (any, error) {
	if !o.has("yes") {
		return nil, failf("refusing to delete without --yes: there is nobody to ask")
	}
	if o.has("cache") && len(o.args) == 0 && !o.has("all") {
		return nil, e.collect(true)
	}
	err := e.each(o, func(v *vm) error {
		if tag := o.value("tag"); tag != "" {
			if v.Tags[tag] == nil {
				return notFound(v.Name + " tag " + tag)
			}
			return e.store.update(v, func(v *vm) {
				delete(v.Tags, tag)
				if v.Version == tag {
					v.Version = ""
				}
			})
		}
		if err := e.store.halt(v, true); err != nil {
			return err
		}
		return e.store.remove(v)
	})
	if err != nil {
		return nil, err
	}
	return nil, e.collect(o.has("cache") || !atLeast(versionNumber(), "3.9.1"))
}

// collect frees the space of what was deleted, now or with the next command.
func (e *env) collect(now bool) error {
	due := filepath.Join(e.store.dir, "collect")
	if !now {
		return os.WriteFile(due, nil, 0o644)
	}
	unlock, err := e.store.lock("lock")
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Remove(due); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return e.store.collect()
}

// collectDue does what an earlier delete put off.
func (e *env) collectDue() error {
	if _, err := os.Stat(filepath.Join(e.store.dir, "collect")); err != nil {
		return nil
	}
	return e.collect(true)
}

// remove deletes the record first: what is left of the directory is no VM.
func (s *store) remove(v *vm) error {
	unlock, err := s.lock("lock")
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Remove(s.vmDir(v.UUID) + "/vm.json"); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.RemoveAll(s.vmDir(v.UUID))
}

func license(_ context.Context, e *env, o options) (any, error) {
	valid := os.Getenv("FAKEANKA_LICENSE") != "invalid"
	if len(o.args) == 0 || o.args[0] != "show" && o.args[0] != "validate" {
		return nil, usageError("license show or license validate")
	}
	if _, err := e.parse("license "+o.args[0], o.args[1:], false); err != nil {
		return nil, err
	}
	if !valid {
		return nil, failf("license is not valid")
	}
	if o.args[0] == "validate" {
		return "License is valid", nil
	}
	return map[string]any{"license_type": "com.veertu.anka.entplus", "status": "valid", "expires": "2036-01-01", "max_number_of_cores": runtime.NumCPU()}, nil
}

func version(context.Context, *env, options) (any, error) {
	return map[string]any{"product": "Anka Build Enterprise Plus", "version": versionNumber(), "build": "fake"}, nil
}

func nothing(_ context.Context, e *env, o options) (any, error) {
	_, err := e.one(o)
	return nil, err
}

// showLog prints the log of all VMs.
func showLog(_ context.Context, e *env, _ options) (any, error) {
	list, err := e.store.all()
	if err != nil {
		return nil, err
	}
	lines := []string{}
	for _, v := range list {
		if data, err := os.ReadFile(filepath.Join(e.store.vmDir(v.UUID), "vm.log")); err == nil {
			lines = append(lines, strings.Split(strings.TrimSpace(string(data)), "\n")...)
		}
	}
	return lines, nil
}

func usb(_ context.Context, e *env, o options) (any, error) {
	if len(o.args) > 0 && o.args[0] == "list" {
		return []any{}, nil
	}
	return nil, nil
}
