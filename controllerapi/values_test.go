package controllerapi

import (
	"strings"
	"testing"
)

// hostile are values that would be an option, another path or another line where a
// name is expected.
var hostile = []string{"--all", "-f", "-", "../x", "..", "a/../b", "/x", "a\nb", "a\x00b", "\x1b[2J", strings.Repeat("a", 1000)}

func TestTasksWithHostileValuesAreRefused(t *testing.T) {
	good := TemplateRef{ID: "c0847bc9-5d2d-4dbc-ba6a-240f7ff08032", Name: "macOS 15 (arm64)", Tag: "v1.2_3+x", Repository: "team/macos-15"}
	start := func(edit func(*StartTask)) Task {
		task := StartTask{Template: good}
		edit(&task)
		return Task{Kind: TaskStart, InstanceID: "i", Start: &task}
	}
	save := func(edit func(*SaveImageTask)) Task {
		task := SaveImageTask{Request: SaveImageRequest{Tag: "v2"}, Target: good}
		edit(&task)
		return Task{Kind: TaskSaveImage, InstanceID: "i", SaveImage: &task}
	}
	with := func(edit func(*TemplateRef)) TemplateRef {
		ref := good
		edit(&ref)
		return ref
	}
	for field, task := range map[string]func(v string) Task{
		"start id":         func(v string) Task { return start(func(s *StartTask) { s.Template.ID = TemplateID(v) }) },
		"start tag":        func(v string) Task { return start(func(s *StartTask) { s.Template.Tag = v }) },
		"start repository": func(v string) Task { return start(func(s *StartTask) { s.Template.Repository = v }) },
		"name alone": func(v string) Task {
			return start(func(s *StartTask) { s.Template.Repository, s.Template.Name = "", v })
		},
		"usb_device":        func(v string) Task { return start(func(s *StartTask) { s.Request.USBDevice = v }) },
		"vlan_tag":          func(v string) Task { return start(func(s *StartTask) { s.Request.VLANTag = v }) },
		"mac_address":       func(v string) Task { return start(func(s *StartTask) { s.Request.MACAddress = v }) },
		"network_mode":      func(v string) Task { return start(func(s *StartTask) { s.Request.NetworkMode = v }) },
		"network_local":     func(v string) Task { return start(func(s *StartTask) { s.Request.NetworkLocal = v }) },
		"video_controller":  func(v string) Task { return start(func(s *StartTask) { s.Request.VideoController = v }) },
		"hvapic":            func(v string) Task { return start(func(s *StartTask) { s.Request.HVAPIC = v }) },
		"csr_active_config": func(v string) Task { return start(func(s *StartTask) { s.Request.CSRActiveConfig = v }) },
		"hw_serial":         func(v string) Task { return start(func(s *StartTask) { s.Request.HWSerial = v }) },
		"hw_uuid":           func(v string) Task { return start(func(s *StartTask) { s.Request.HWUUID = v }) },
		"disk":              func(v string) Task { return start(func(s *StartTask) { s.Request.Disk = &DiskRequest{Size: v} }) },
		"port rule": func(v string) Task {
			return start(func(s *StartTask) { s.Request.PortForwardingOverride = []PortForwardRule{{Name: v, GuestPort: "22"}} })
		},
		"port address": func(v string) Task {
			return start(func(s *StartTask) {
				s.Request.PortForwardingOverride = []PortForwardRule{{Name: "ssh", GuestPort: "22", HostIP: v}}
			})
		},
		"restart": func(v string) Task {
			return Task{Kind: TaskRestart, InstanceID: "i", Restart: &RestartTask{USBDevice: v}}
		},
		"save tag":        func(v string) Task { return save(func(s *SaveImageTask) { s.Request.Tag = v }) },
		"save revert tag": func(v string) Task { return save(func(s *SaveImageTask) { s.Request.RevertTag = v }) },
		"save new name": func(v string) Task {
			return save(func(s *SaveImageTask) { s.Target, s.Request.NewTemplateName = TemplateRef{Name: v}, v })
		},
		"save target": func(v string) Task { return save(func(s *SaveImageTask) { s.Target.ID = TemplateID(v) }) },
		"save into":   func(v string) Task { return save(func(s *SaveImageTask) { s.Target.Repository = v }) },
		"distribute id": func(v string) Task {
			return Task{Kind: TaskDistribute, Distribute: &DistributeTask{Template: with(func(r *TemplateRef) { r.ID = TemplateID(v) })}}
		},
		"distribute tag": func(v string) Task {
			return Task{Kind: TaskDistribute, Distribute: &DistributeTask{Template: with(func(r *TemplateRef) { r.Tag = v })}}
		},
		"remove": func(v string) Task { return Task{Kind: TaskRemove, Remove: &RemoveTask{TemplateID: TemplateID(v)}} },
	} {
		for _, v := range hostile {
			if refused := task(v); refused.Check() == nil {
				t.Errorf("%s %.20q was accepted", field, v)
			}
		}
	}
	for name, task := range map[string]Task{
		"start": start(func(s *StartTask) {
			s.Request = StartRequest{USBDevice: "iPhone 15", VLANTag: "111", MACAddress: "02:AB:00:00:00:01", HWUUID: "c0847bc9-5d2d", HWSerial: "C02", Disk: &DiskRequest{Size: "100G"},
				PortForwardingOverride: []PortForwardRule{{Name: "ssh", GuestPort: "22", HostIP: "::1"}}}
		}),
		"a name that is not used": start(func(s *StartTask) { s.Template.Name = "--check-download-size" }),
		"save":                    save(func(*SaveImageTask) {}),
		"save as a new one": save(func(s *SaveImageTask) {
			s.Target, s.Request.NewTemplateName = TemplateRef{Name: "team/new"}, "team/new"
		}),
		"remove":                {Kind: TaskRemove, Remove: &RemoveTask{TemplateID: good.ID}},
		"of a kind that is new": {Kind: "later"},
	} {
		if err := task.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
