package content

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestConfigurationsInYAMLAreRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"name: a\nuuid: 01\nlist: [1, 2.5, true, null, ~, 'x']\n":                    `{"list":[1,2.5,true,null,null,"x"],"name":"a","uuid":"01"}`,
		"a:\n  b:\n  - c: \"d\"\n  - {e: f}\nversion: 2\n":                           `{"a":{"b":[{"c":"d"},{"e":"f"}]},"version":2}`,
		"created: 2026-11-30 00:00:00\n1: one\nhex: 0x10\nno: no\ntext: a & b *c*\n": `{"1":"one","created":"2026-11-30 00:00:00","hex":"0x10","no":"no","text":"a \u0026 b *c*"}`,
	} {
		got, err := yamlToJSON([]byte(text))
		if err != nil || string(got) != want {
			t.Errorf("%q: got %s (%v), want %s", text, got, err, want)
		}
	}
}

func TestConfigurationsThatGrowAreNotRead(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"one text many times": "a: &a \"" + strings.Repeat("x", 30_000) + "\"\nb: [" + strings.Repeat("*a,", 10_000) + "*a]\n",
		"laughs":              "a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\n",
		"merge":               "a: &a {x: 1}\nb:\n  <<: *a\n",
		"itself":              "a: &a [*a]\n",
		"depth":               strings.Repeat("[", 100) + strings.Repeat("]", 100),
		"size":                "a: " + strings.Repeat("x", maxYAML),
		"nothing":             "",
		"list as key":         "? [a]\n: b\n",
	} {
		if got, err := yamlToJSON([]byte(text)); err == nil {
			t.Errorf("%s: got %d bytes for %d", name, len(got), len(text))
		}
	}
}

// FuzzYAML: what is read of a configuration is JSON, and not much more than was pushed.
func FuzzYAML(f *testing.F) {
	for _, seed := range []string{"a: &a \"" + strings.Repeat("x", 100) + "\"\nb: [" + strings.Repeat("*a,", 100) + "]", "a: 1\nb: [x, {c: d}]", "\"\\x00\\x01\": \"\\a\\e\"", "- 1e400\n- .inf\n- 0o7\n- -0x1"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := yamlToJSON(data)
		if err != nil {
			return
		}
		if !json.Valid(got) || len(got) > 8*len(data)+1024 {
			t.Fatalf("%d bytes for %d: %.200s", len(got), len(data), got)
		}
	})
}
