package main

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
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
