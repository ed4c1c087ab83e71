package machine

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"strconv"
	"strings"
)

// What commands of macOS print, read here so that it can be tested anywhere.

// vmStatPage is the first line of vm_stat. The size is that of the host: a program
// translated by Rosetta gets 4096 as the size on hosts whose pages have 16384 bytes.
var vmStatPage = regexp.MustCompile(`page size of (\d+) bytes`)

// usedPages reads what vm_stat prints and returns how many bytes are in use: wired,
// compressed and anonymous pages. Active pages are in good part the cache of files,
// which can be had, so they count only where anonymous ones are not listed. fallback
// is the size of a page where none is given.
func usedPages(vmStat []byte, fallback int) float64 {
	page := float64(fallback)
	if m := vmStatPage.FindSubmatch(vmStat); m != nil {
		if n, err := strconv.Atoi(string(m[1])); err == nil && n > 0 {
			page = float64(n)
		}
	}
	pages := make(map[string]float64)
	for line := range bytes.Lines(vmStat) {
		name, value, ok := strings.Cut(string(line), ":")
		if n, err := strconv.ParseFloat(strings.Trim(value, " .\r\n"), 64); ok && err == nil && n > 0 {
			pages[strings.TrimSpace(name)] = n
		}
	}
	held, told := pages["Anonymous pages"]
	if !told {
		held = pages["Pages active"]
	}
	return page * (held + pages["Pages wired down"] + pages["Pages occupied by compressor"])
}

// loadShare reads the value of sysctl vm.loadavg, struct loadavg { fixpt_t ldavg[3];
// long fscale; }, and returns the load of the last minute as a share of cpus.
func loadShare(raw []byte, cpus int) (share float64, ok bool) {
	if len(raw) < 16 || cpus <= 0 {
		return 0, false
	}
	load, scale := float64(binary.LittleEndian.Uint32(raw)), float64(binary.LittleEndian.Uint64(raw[len(raw)-8:]))
	if scale == 0 {
		return 0, false
	}
	return min(load/scale/float64(cpus), 1), true
}

// macArch names the processor of a Mac: a program for Intel may be translated on
// Apple silicon, which hw.optional.arm64 gives away. Elsewhere the name is unknown.
func macArch(goarch string, optionalARM64 uint32, err error) string {
	if goarch == "arm64" || err == nil && optionalARM64 == 1 {
		return "arm64"
	}
	return "amd64"
}
