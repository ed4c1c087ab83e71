package wire

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// Documents that cost the reader far more than their sender are refused before they
// become values of Go.
func TestDocumentsAreMeasuredBeforeTheyAreDecoded(t *testing.T) {
	t.Parallel()
	type element struct{ A, B, C, D, E, F, G, H string }
	type document struct {
		List []element      `json:"list"`
		Map  map[string]any `json:"map" max:"1048576"`
		Any  any            `json:"any"`
	}
	body := func(head, item, tail string) string {
		return head + strings.Repeat(item+",", (MaxBody-len(head)-len(tail)-len(item))/(len(item)+1)) + item + tail
	}
	keys := strings.Builder{}
	for i := 0; keys.Len() < MaxBody-20; i++ {
		if i > 0 {
			keys.WriteByte(',')
		}
		keys.WriteString(`"` + strings.ToUpper(string(rune('a'+i%26))) + `":0`)
	}
	for name, text := range map[string]string{
		"empty objects":  body(`{"list":[`, `{}`, `]}`),
		"nulls":          body(`{"list":[`, `null`, `]}`),
		"empty lists":    body(`{"any":[`, `[]`, `]}`),
		"numbers":        body(`{"any":[`, `0`, `]}`),
		"keys":           `{"map":{` + keys.String() + `}}`,
		"depth":          `{"any":` + strings.Repeat("[", 1<<19) + strings.Repeat("]", 1<<19-10) + `}`,
		"keys of nobody": body(`{`, `"x":0`, `}`),
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(text))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode[document](r)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, CodeTooLarge) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
		// Other tests run beside this one; before the documents were measured it was 100 MB and more.
		if took := after.TotalAlloc - before.TotalAlloc; took > 10*MaxBody {
			t.Errorf("%s: took %d KB for a body of %d KB", name, took>>10, len(text)>>10)
		}
	}
}

// What Measure counts is each value, and an empty list or object twice: a bracket in a
// string is text.
func FuzzMeasure(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2,{"b":"[[[,\",{"}]}`, `"\\"`, `[[],{}]`, `{"a":"\u0022,"}`, `[`, `"`, `"\`, `{"a":1,"a":2}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) {
			_ = Measure([]byte(text), MaxValues) // must not panic
			return
		}
		count, depth := countValues(json.NewDecoder(strings.NewReader(text)))
		if depth > MaxDepth {
			return
		}
		if err := Measure([]byte(text), count); err != nil {
			t.Fatalf("%q has %d values: %v", text, count, err)
		}
		if err := Measure([]byte(text), count-1); err == nil && count > 1 {
			t.Fatalf("%q has %d values, and passes for less", text, count)
		}
	})
}

// countValues counts the values of what comes next.
func countValues(dec *json.Decoder) (values, depth int) {
	token, _ := dec.Token()
	if token != json.Delim('{') && token != json.Delim('[') {
		return 1, 0
	}
	if !dec.More() {
		values++ // an empty one counts twice
	}
	for dec.More() {
		if token == json.Delim('{') {
			_, _ = dec.Token()
		}
		n, d := countValues(dec)
		values, depth = values+n, max(depth, d)
	}
	_, _ = dec.Token()
	return values + 1, depth + 1
}

func TestFieldsHaveTheLengthsOfTheirTypes(t *testing.T) {
	t.Parallel()
	type inner struct {
		Text string `json:"text" max:"5"`
	}
	type document struct {
		Name  string         `json:"name" max:"3"`
		Else  *string        `json:"else"`
		Tags  []string       `json:"tags" max:"2"`
		Facts map[string]any `json:"facts" max:"10"`
		Inner []inner        `json:"inner"`
	}
	for body, want := range map[string]string{
		`{"name":"abc","tags":["ab","c"],"facts":{"ab":"cd","e":true},"inner":[{"text":"abcde"}]}`: "facts has 13 bytes: it must have at most 10",
		`{"name":"abc","tags":["ab","c"],"facts":{"ab":"cd"},"inner":[{"text":"abcde"}]}`:          "",
		`{"name":"abcd"}`:                              "name has 4 bytes: it must have at most 3",
		`{"tags":["ab","abc"]}`:                        "tags has 3 bytes: it must have at most 2",
		`{"inner":[{},{"text":"abcdef"}]}`:             "inner.text has 6 bytes: it must have at most 5",
		`{"else":"` + strings.Repeat("x", 4096) + `"}`: "",
		`{"else":"` + strings.Repeat("x", 4097) + `"}`: "else has 4097 bytes: it must have at most 4096",
	} {
		_, err := Decode[document](httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%.60s: got %q, want %q", body, got, want)
		}
	}
}

// What was sent comes back in an error in part only: it may be kept and logged.
func TestErrorsTellTheBeginningOfWhatWasSent(t *testing.T) {
	t.Parallel()
	type id string
	long := strings.Repeat("x", 1<<20)
	for name, err := range map[string]*Error{
		"failure": Failf("id %q is unknown", id(long)), "bad": BadRequest("field %q", long), "code": CodeNotFound.Failf("%s and %s", long, long), "plain": Fail(long),
	} {
		if len(err.Message) > maxMessage+10 || !strings.Contains(err.Message, "…") {
			t.Errorf("%s: %d bytes", name, len(err.Message))
		}
	}
	if got := Failf("id %q of %d", "short", 7).Message; got != `id "short" of 7` {
		t.Errorf("got %s", got)
	}
}

// A body that is said to be long costs nothing until it comes, and all of them
// together have a bound.
func TestLargeBodiesShareTheirMemory(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", iotest.ErrReader(io.ErrUnexpectedEOF))
	r.ContentLength = MaxBody
	if _, err := ReadBody(r, MaxBody); !errors.Is(err, CodeBadRequest) || buffered.Load() != 0 {
		t.Errorf("got %v, %d bytes are held", err, buffered.Load())
	}
	buffered.Store(maxBuffered)
	defer buffered.Store(0)
	large := strings.NewReader(strings.Repeat(" ", MaxBody))
	if _, err := ReadBody(httptest.NewRequest(http.MethodPost, "/", large), MaxBody); !errors.Is(err, CodeUnavailable) {
		t.Errorf("beyond what is kept in all: got %v", err)
	}
	if _, err := ReadBody(httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}")), MaxBody); err != nil {
		t.Errorf("a small body: %v", err)
	}
	if buffered.Load() != maxBuffered {
		t.Errorf("%d bytes are held after all", buffered.Load()-maxBuffered)
	}
}
