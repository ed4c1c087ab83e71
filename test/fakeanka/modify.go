package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// modifyVM changes a stopped VM: modify ID cpu 4, ram 8G, network -t shared,
// port ssh 22, name new, delete port ssh.
func modifyVM(_ context.Context, e *env, o options) (any, error) {
	if len(o.args) < 2 {
		return nil, usageError("modify VM_ID PROPERTY VALUE")
	}
	id, property, rest := o.args[0], o.args[1], o.args[2:]
	if (property == "add" || property == "delete") && len(rest) > 0 {
		property, rest = property+" "+rest[0], rest[1:]
	}
	o, err := e.parse("modify "+property, rest, false)
	if err != nil {
		return nil, err
	}
	unlock, err := e.store.lock("lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	v, err := e.store.find(id)
	if err != nil {
		return nil, err
	}
	if e.store.running(v) {
		return nil, failf("VM %s is running: stop it before you modify it", v.Name)
	}
	if err := e.change(v, property, o); err != nil {
		return nil, err
	}
	return nil, e.store.save(v)
}

func arg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

func (e *env) change(v *vm, property string, o options) error {
	value := arg(o.args, 0)
	switch strings.TrimPrefix(property, "add ") {
	case "cpu":
		n, err := strconv.Atoi(cmp.Or(value, o.value("cores")))
		if err != nil || n < 1 || n > 64 {
			return failf("cpu %q: must be a number from 1 to 64", value)
		}
		v.CPU = n
	case "ram":
		if ramBytes(value) == 0 {
			return failf("ram %q: must be like 8G", value)
		}
		v.RAM = value
	case "disk":
		if s := o.value("size"); s != "" {
			v.Disk = s
		}
	case "network":
		if t := o.value("mode"); t != "" {
			v.Network = t
		}
		if m := o.value("mac"); m != "" {
			v.MAC = m
		}
	case "name":
		if _, err := e.store.find(value); err == nil {
			return &ankaError{Message: "VM name " + value + " is taken", Code: 18, Type: "VMNameTakenException"}
		}
		v.Name = value
	case "port":
		return addPort(v, o.args)
	case "delete port":
		if value == "" && !o.has("all") {
			return failf("modify VM_ID delete port NAME")
		}
		v.Ports = slices.DeleteFunc(v.Ports, func(p port) bool { return o.has("all") || p.Name == value })
	case "set":
		if len(o.args) != 3 || value != "custom-variable" {
			return usageError("modify VM_ID set custom-variable KEY VALUE")
		}
		if v.Custom == nil {
			v.Custom = make(map[string]string)
		}
		v.Custom[o.args[1]] = o.args[2]
	}
	return nil
}

// addPort reads NAME and a rule guest[:addr][:host].
func addPort(v *vm, args []string) error {
	if len(args) != 2 {
		return failf("modify VM_ID port NAME GUEST[:ADDRESS][:HOST]")
	}
	parts := strings.Split(args[1], ":")
	p := port{Name: args[0], Protocol: "tcp"}
	var err error
	if p.Guest, err = strconv.Atoi(parts[0]); err != nil || p.Guest < 1 || p.Guest > 65535 {
		return failf("port rule %q: the guest port must be a number from 1 to 65535", args[1])
	}
	if len(parts) == 2 && unknown("port-address") && net.ParseIP(parts[1]) == nil {
		return failf("port rule %q: %q is no address", args[1], parts[1])
	}
	if len(parts) > 1 {
		if n, err := strconv.Atoi(parts[len(parts)-1]); err == nil && n > 0 {
			p.Host = n
		}
	}
	for _, other := range v.Ports {
		if other.Name == p.Name {
			return failf("port forwarding rule %s exists", p.Name)
		}
	}
	v.Ports = append(v.Ports, p)
	return nil
}

// config reads or, with a value, sets a setting of this Mac.
func config(_ context.Context, e *env, o options) (any, error) {
	unlock, err := e.store.lock("lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	path := filepath.Join(e.store.dir, "config.json")
	settings := map[string]string{"default_user": "anka", "port_forwarding_min_port": strconv.Itoa(envInt("FAKEANKA_PORT_BASE", 10000)), "vnc_password": "admin",
		"img_lib_dir": filepath.Join(e.store.dir, "layers"), "vm_lib_dir": filepath.Join(e.store.dir, "vms")}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &settings)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	switch len(o.args) {
	case 0:
		return settings, nil
	case 1:
		value, ok := settings[o.args[0]]
		if !ok {
			return nil, failf("no such setting: %s", o.args[0])
		}
		return value, nil
	default:
		settings[o.args[0]] = o.args[1]
		return nil, writeJSON(path, settings)
	}
}
