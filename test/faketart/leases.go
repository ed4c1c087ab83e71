package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ankacluster/ankacluster/test/fakefault"
)

// The host's DHCP server leases addresses to hardware addresses, and keeps them
// until they end, whatever becomes of the VM. As on a Mac, a lease is found by the
// hardware address alone: a VM that has that of an earlier one has its lease too.

// lease is an address that a hardware address has.
type lease struct {
	IP   string
	Ends time.Time
}

// leases changes the leases that have not ended.
func (s *store) leases(change func(map[string]lease) bool) error {
	f, err := os.OpenFile(filepath.Join(s.home, "leases.lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	unlock, err := fakefault.Flock(f)
	if err != nil {
		return err
	}
	defer unlock()
	path := filepath.Join(s.home, "leases.json")
	all := make(map[string]lease)
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for mac, l := range all {
		if !time.Now().Before(l.Ends) {
			delete(all, mac)
		}
	}
	if !change(all) {
		return nil
	}
	if data, err = json.Marshal(all); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o644); err != nil { // the lock is held
		return err
	}
	return os.Rename(path+".new", path)
}

// address returns what is leased to a hardware address, "" for nothing.
func (s *store) address(mac string) (ip string, err error) {
	err = s.leases(func(all map[string]lease) bool { ip = all[mac].IP; return false })
	return ip, err
}

// obtain leases an address to a guest that has booted; there may be none left.
func (s *store) obtain(mac string) (ok bool, err error) {
	long, err := time.ParseDuration(cmp.Or(os.Getenv("FAKETART_LEASE"), "24h"))
	if err != nil {
		return false, err
	}
	pool, err := strconv.Atoi(cmp.Or(os.Getenv("FAKETART_ADDRESSES"), "253"))
	if err != nil {
		return false, err
	}
	err = s.leases(func(all map[string]lease) bool {
		l, known := all[mac]
		taken := make(map[string]bool)
		for _, other := range all {
			taken[other.IP] = true
		}
		for n := 2; !known && n < 2+pool; n++ {
			if l.IP = fmt.Sprintf("192.168.64.%d", n); !taken[l.IP] {
				known = true
			}
		}
		if ok = known; ok {
			l.Ends = time.Now().Add(long)
			all[mac] = l
		}
		return ok
	})
	return ok, err
}
