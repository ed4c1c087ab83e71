package cloud

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// MAC is an address in use.
type MAC struct {
	Instance api.InstanceID `json:"instance"`
	rev      int64
}

// MACPool says whether the pool gives addresses.
type MACPool struct {
	Purged bool `json:"purged"`
	rev    int64
}

// MACRange is the range of addresses that the cloud gives to instances. The zero
// value means that addresses are not managed.
type MACRange struct{ First, Last uint64 }

// MACSource is what addresses are given from: a range, of which Tries are looked at
// from a random place before it is searched. The random place keeps two Stores from
// choosing the same one.
type MACSource struct {
	Range MACRange
	Tries int
}

// ErrNoMAC: the pool has no free address, or not the one asked for.
var ErrNoMAC = errors.New("no free MAC address")

// ParseMACRange reads a range such as 02:00:00:00:00:00-02:00:00:00:0F:FF.
func ParseMACRange(s string) (MACRange, error) {
	a, b, ok := strings.Cut(s, "-")
	first, err1 := parseMAC(a)
	last, err2 := parseMAC(b)
	if !ok || err1 != nil || err2 != nil || first > last {
		return MACRange{}, fmt.Errorf("%q must be two MAC addresses in order, such as 02:00:00:00:00:00-02:00:00:00:0F:FF", s)
	}
	return MACRange{First: first, Last: last}, nil
}

func parseMAC(s string) (uint64, error) {
	hw, err := net.ParseMAC(strings.TrimSpace(s))
	if err != nil || len(hw) != 6 {
		return 0, errors.New("not a MAC address")
	}
	var n uint64
	for _, b := range hw {
		n = n<<8 | uint64(b)
	}
	return n, nil
}

func formatMAC(n uint64) string {
	hw := net.HardwareAddr{byte(n >> 40), byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	return strings.ToUpper(hw.String())
}

// Size is how many addresses the range has.
func (r MACRange) Size() uint64 {
	if r == (MACRange{}) {
		return 0
	}
	return r.Last - r.First + 1
}

// FreeMACs returns up to limit free addresses above last ("" from the start).
func (v *View) FreeMACs(r MACRange, last string, limit int) []string {
	out := []string{}
	if r.Size() == 0 || v.MACPool != nil && v.MACPool.Purged {
		return out
	}
	n := r.First
	if after, err := parseMAC(last); err == nil && after >= r.First {
		n = after + 1
	}
	for ; n <= r.Last && len(out) < limit; n++ {
		if addr := formatMAC(n); v.MACs[addr] == nil {
			out = append(out, addr)
		}
	}
	return out
}

// CountMACs returns how many addresses are free and in use.
func (v *View) CountMACs(r MACRange) (free, used uint64) {
	used = uint64(len(v.MACs))
	if r.Size() == 0 || v.MACPool != nil && v.MACPool.Purged || used > r.Size() {
		return 0, used
	}
	return r.Size() - used, used
}

// SetMACPool makes the pool give addresses, or none.
func (v *View) SetMACPool(purged bool) (*Change, bool, error) {
	was, rev := false, int64(0)
	if v.MACPool != nil {
		was, rev = v.MACPool.Purged, v.MACPool.rev
	}
	if was == purged {
		return nil, false, ErrNoChange
	}
	c := new(Change)
	c.Must(MACPoolRef, rev)
	c.Put(MACPoolRef, MACPool{Purged: purged})
	return c, false, nil
}

// assignMACs gives each instance its address, in the change that makes it.
func (v *View) assignMACs(c *Change, macs MACSource, list []*Instance, asked string) error {
	r := macs.Range
	if r.Size() == 0 {
		return nil
	}
	if v.MACPool != nil && v.MACPool.Purged {
		return ErrNoMAC
	}
	taken := make(map[string]bool)
	for _, i := range list {
		addr := asked
		if addr == "" {
			addr = v.freeMAC(macs, taken)
		}
		if addr == "" || v.MACs[addr] != nil || taken[addr] {
			return refuse(ErrNoMAC, " %s", asked)
		}
		taken[addr] = true
		i.Public.MACAddress = addr
		c.Must(MACRef(addr), 0)
		c.Put(MACRef(addr), MAC{Instance: i.Public.InstanceID})
	}
	return nil
}

func (v *View) freeMAC(macs MACSource, taken map[string]bool) string {
	r := macs.Range
	start := rand.Uint64N(r.Size())
	for k := range uint64(max(macs.Tries, 1)) {
		addr := formatMAC(r.First + (start+k)%r.Size())
		if v.MACs[addr] == nil && !taken[addr] {
			return addr
		}
	}
	for n := r.First; n <= r.Last; n++ { // the pool is nearly empty
		if addr := formatMAC(n); v.MACs[addr] == nil && !taken[addr] {
			return addr
		}
	}
	return ""
}

// roomForMACs reports, before a large start is begun, whether it will find its
// addresses.
func (v *View) roomForMACs(r MACRange, n int) error {
	if r.Size() == 0 {
		return nil
	}
	if free, _ := v.CountMACs(r); free < uint64(n) {
		return ErrNoMAC
	}
	return nil
}
