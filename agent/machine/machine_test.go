package machine

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPlatformUUIDIsReadWhateverTheLanguage(t *testing.T) {
	t.Parallel()
	const out = `+-o J493AP  <class IOPlatformExpertDevice, id 0x100000223, registered, matched, active, busy 0 (1 ms), retain 43>
    {
      "IOPolledInterface" = "AppleARMWatchdogTimerHibernateHandler is not serializable"
      "IOPlatformUUID" = "564DC7C1-40A5-5C50-9F5A-3D2B1A0C9E77"
      "IOPlatformSerialNumber" = "XXXXXXXXXX"
    }
`
	if got, want := platformUUID([]byte(out)), "mac:564dc7c1-40a5-5c50-9f5a-3d2b1a0c9e77"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := platformUUID([]byte("Fehler")); got != "" {
		t.Errorf("nothing to be read: got %q", got)
	}
}

// Pages have 4096 bytes on Intel and 16384 on Apple silicon, and vm_stat tells which,
// also to a program that Rosetta translates.
func TestUsedMemoryOfMacs(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]float64{
		"vm_stat-16384": (600000 + 131072 + 65536) * 16384, "vm_stat-4096": (1500000 + 524288 + 10000) * 4096,
		"vm_stat-old": (300000 + 100000) * 4096, // without anonymous pages
	} {
		data, err := os.ReadFile(filepath.Join("testdata", "mac", name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		if got := usedPages(data, 1); got != want {
			t.Errorf("%s: %.0f bytes, want %.0f", name, got, want)
		}
	}
	if got := usedPages([]byte("Pages wired down: 10.\r\n"), 4096); got != 40960 {
		t.Errorf("without a page size: %.0f, want the fallback's", got)
	}
	if got := usedPages([]byte("Fehler: -3\nPages active: viele.\n"), 4096); got != 0 {
		t.Errorf("what cannot be read: %.0f, want 0", got)
	}
}

func TestLoadOfMacs(t *testing.T) {
	t.Parallel()
	loadavg := func(load uint32, scale uint64) []byte {
		raw := make([]byte, 24)
		binary.LittleEndian.PutUint32(raw, load)
		binary.LittleEndian.PutUint64(raw[16:], scale)
		return raw
	}
	for _, c := range []struct {
		raw  []byte
		cpus int
		want float64
		ok   bool
	}{
		{loadavg(4096, 2048), 8, 0.25, true},
		{loadavg(40960, 2048), 8, 1, true}, // more wants to run than can
		{loadavg(4096, 0), 8, 0, false},
		{nil, 8, 0, false},
		{loadavg(4096, 2048), 0, 0, false},
	} {
		if got, ok := loadShare(c.raw, c.cpus); got != c.want || ok != c.ok {
			t.Errorf("loadShare(%v, %d) = %v, %t, want %v, %t", c.raw, c.cpus, got, ok, c.want, c.ok)
		}
	}
}

// A program for Intel tells the host's processor, not the one that it was made for.
func TestProcessorOfMacs(t *testing.T) {
	t.Parallel()
	unknown := errors.New("unknown oid")
	for _, c := range []struct {
		goarch string
		arm64  uint32
		err    error
		want   string
	}{{"arm64", 1, nil, "arm64"}, {"amd64", 1, nil, "arm64"}, {"amd64", 0, unknown, "amd64"}, {"arm64", 0, unknown, "arm64"}} {
		if got := macArch(c.goarch, c.arm64, c.err); got != c.want {
			t.Errorf("macArch(%s, %d, %v) = %s, want %s", c.goarch, c.arm64, c.err, got, c.want)
		}
	}
}

// D16: free space is that of the volume with the least of those that images and VMs
// are on, and that of the state directory where none of them is there.
func TestSpaceIsThatOfTheImages(t *testing.T) {
	m := New("/", func() []string { return nil })
	rootSize, _ := diskSpace("/")
	procSize, procFree := diskSpace("/dev/shm")
	if procSize == 0 || procSize == rootSize {
		t.Skip("this system has one volume")
	}
	m.KeepOn([]string{"/dev/shm", "/"})
	_, rootFree := diskSpace("/")
	want := rootSize
	if procFree < rootFree {
		want = procSize
	}
	if got := m.Facts().DiskSize; got != want {
		t.Errorf("size %d, want that of the volume with the least room, %d", got, want)
	}
	m.KeepOn([]string{"/dev/shm"})
	if got := m.Facts().DiskSize; got != procSize {
		t.Errorf("size %d, want %d", got, procSize)
	}
	m.KeepOn([]string{"/there/is/no/such/volume"})
	if got := m.Facts().DiskSize; got != rootSize {
		t.Errorf("without the volume: size %d, want %d", got, rootSize)
	}
}
