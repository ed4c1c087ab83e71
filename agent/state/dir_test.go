package state

import (
	"os"
	"strings"
	"testing"
)

// A6: the identity survives whatever happens to everything else.
func TestA6IdentityIsKept(t *testing.T) {
	dir := Dir(t.TempDir())
	first, err := dir.Identity("")
	if err != nil || first == "" {
		t.Fatal(first, err)
	}
	for range 3 {
		if err := dir.Forget(); err != nil {
			t.Fatal(err)
		}
		if again, err := dir.Identity(""); err != nil || again != first {
			t.Fatalf("got %s, %v; want %s", again, err, first)
		}
	}
	if id, err := dir.Identity("chosen"); err != nil || id != "chosen" {
		t.Errorf("got %s, %v", id, err)
	}
	first = "chosen"
	// A crash in the middle of writing, as of a re-join that changes it, leaves the
	// old file; a disk that lost it, or a person, may leave anything. Another id
	// would be another node, so that only a person may choose one.
	if err := os.WriteFile(dir.path(".new-1234"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := dir.Identity(""); err != nil || again != first {
		t.Errorf("after a crash: got %s, %v; want %s", again, err, first)
	}
	for _, content := range []string{"", "{", "{}", "null", `{"node_id":""}`, "\x00\x00\x00"} {
		if err := os.WriteFile(dir.path("node.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := dir.Identity(""); err == nil || !strings.Contains(err.Error(), "--node-id") {
			t.Errorf("identity %q: got %s, %v; want an error that names --node-id", content, id, err)
		}
		if id, err := dir.Identity(first); err != nil || id != first {
			t.Errorf("identity %q, told by a person: got %s, %v", content, id, err)
		}
	}
}
