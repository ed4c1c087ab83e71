package main

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/test/simnode"
)

func TestCountFindsEveryWordWhereverReadsEnd(t *testing.T) {
	t.Parallel()
	const word = `"state":"Offline"`
	text := strings.Repeat("x", 65530) + strings.Repeat(word+`,"state":"Active",`, 9000) + word
	for name, r := range map[string]io.Reader{
		"as it comes": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text)), "the end with data": iotest.DataErrReader(strings.NewReader(text)),
	} {
		if n, err := count(r, word); err != nil || n != 9001 {
			t.Errorf("%s: got %d, %v; want 9001", name, n, err)
		}
	}
	if _, err := count(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(text))), word); err == nil {
		t.Error("a list that breaks off counts as a whole one")
	}
}

func TestDamagedListIsAViolation(t *testing.T) {
	t.Parallel()
	d := &driver{ledger: simnode.NewLedger()}
	list := []controllerapi.ListedInstance{{VM: controllerapi.Instance{ExternalID: "key", Metadata: simnode.Mark("key", markMost)}}}
	if d.compare(list); len(d.ledger.Violations()) != 0 {
		t.Fatalf("a whole list: %s", d.ledger.Violations()[0])
	}
	list[0].VM.ExternalID = "another"
	if d.compare(list); len(d.ledger.Violations()) != 1 {
		t.Errorf("got %v, want one violation", d.ledger.Violations())
	}
}
