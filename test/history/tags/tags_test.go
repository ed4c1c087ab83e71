package tags

import (
	"testing"
	"time"
)

// Histories that the machine must and must not allow, one operation after another.
func TestModel(t *testing.T) {
	put := func(tag, digest string) Op { return Op{Kind: Put, Tag: tag, Digest: digest, OK: true} }
	read := func(tag, digest string) Op { return Op{Kind: Read, Tag: tag, Digest: digest, OK: true} }
	remove := func(kind, tag string) Op { return Op{Kind: kind, Tag: tag, OK: true} }
	absent := func(kind, tag string) Op { return Op{Kind: kind, Tag: tag, OK: true, Absent: true} }
	lost := func(o Op) Op { o.OK = false; return o }
	for name, tt := range map[string]struct {
		ops  []Op
		want bool
	}{
		"a revert takes the later tag":         {[]Op{put("a", "1"), put("b", "2"), remove(Revert, "a"), read("a", ""), read("b", "")}, true},
		"a revert leaves the earlier tag":      {[]Op{put("a", "1"), put("b", "2"), remove(Revert, "b"), read("a", "1"), read("b", "")}, true},
		"a tag pushed again is the later one":  {[]Op{put("a", "1"), put("b", "2"), put("a", "3"), remove(Revert, "b"), read("a", "")}, true},
		"half a revert":                        {[]Op{put("a", "1"), put("b", "2"), remove(Revert, "a"), read("b", "2")}, false},
		"a revert that takes too much":         {[]Op{put("a", "1"), put("b", "2"), remove(Revert, "b"), read("a", "")}, false},
		"what was deleted comes back":          {[]Op{put("a", "1"), remove(Delete, "a"), read("a", "1")}, false},
		"no such tag, though it is there":      {[]Op{put("a", "1"), absent(Delete, "a")}, false},
		"no such tag to revert, though it is":  {[]Op{put("a", "1"), absent(Revert, "a")}, false},
		"a lost push":                          {[]Op{put("a", "1"), read("a", "")}, false},
		"a push without an answer happens":     {[]Op{lost(put("a", "1")), read("a", "1")}, true},
		"a push without an answer does not":    {[]Op{lost(put("a", "1")), read("a", "")}, true},
		"a revert without an answer, late":     {[]Op{put("a", "1"), lost(remove(Revert, "a")), read("a", "1"), read("a", "")}, true},
		"a revert without an answer, and back": {[]Op{put("a", "1"), lost(remove(Revert, "a")), read("a", ""), read("a", "1")}, false},
	} {
		for i := range tt.ops {
			tt.ops[i].Call, tt.ops[i].Ret = int64(2*i), int64(2*i+1)
		}
		if _, errs := Check(tt.ops, t.TempDir(), time.Minute); (len(errs) == 0) != tt.want {
			t.Errorf("%s: %v, want allowed %t", name, errs, tt.want)
		}
	}
}
