package query

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

type mac struct {
	id, name, state string
	groups          []string
	ram             float64
	seen            time.Time
	meta            map[string]string
}

var macs = Schema[mac]{
	ID:    func(m *mac) string { return m.id },
	Words: func(m *mac) []string { return []string{m.id, m.name} },
	Fields: []Field[mac]{
		{Name: "name", Text: func(m *mac, _ string) []string { return []string{m.name} }},
		{Name: "state", Only: []string{"Active", "Offline"}, Text: func(m *mac, _ string) []string { return []string{m.state} }},
		{Name: "group", Text: func(m *mac, _ string) []string { return m.groups }},
		{Name: "ram", Number: func(m *mac) (float64, bool) { return m.ram, m.ram > 0 }},
		{Name: "age", Since: func(m *mac) time.Time { return m.seen }},
		{Name: "meta.", Text: func(m *mac, key string) []string {
			if v, ok := m.meta[key]; ok {
				return []string{v}
			}
			return nil
		}},
	},
}

var some = []mac{
	{"1", "Mac one", "Active", []string{"ios", "big"}, 32 << 30, now.Add(-time.Minute), map[string]string{"job": "812"}},
	{"2", "mac-two", "Offline", []string{"ios"}, 16 << 30, now.Add(-time.Hour), nil},
	{"3", "mini", "Active", nil, 8 << 30, now.Add(-5 * time.Minute), map[string]string{"job": ""}},
	{"4", "10.0.0.4:80", "Active", nil, 0, time.Time{}, nil},
}

func ids(rows []*mac) string {
	var all []string
	for _, r := range rows {
		all = append(all, r.id)
	}
	return strings.Join(all, "")
}

func TestQuery(t *testing.T) {
	t.Parallel()
	for q, want := range map[string]string{
		"":                           "1234",
		"  ":                         "1234",
		"mac":                        "12",
		"MAC -two":                   "1",
		`"mac one"`:                  "1",
		"mac one":                    "1",
		"state:active":               "134",
		"state:Active,Offline":       "1234",
		"-state:active":              "2",
		"state:o*":                   "2",
		"group:ios":                  "12",
		"group:IOS,other -group:big": "2",
		"-group:*":                   "34",
		`name:"Mac one"`:             "1",
		`name:"mac one",mini`:        "13",
		"name:m*n*":                  "13",
		"name:mac":                   "",
		"ram:16G":                    "2",
		"ram:16G,32gb":               "12",
		"ram>16G":                    "1",
		"ram>=16GiB":                 "12",
		"ram<16G":                    "3",
		"ram<=0.5T -ram:32768M":      "23",
		"-ram>1":                     "4",
		"age<5m":                     "1",
		"age<=5m":                    "13",
		"age>5m":                     "2",
		"age>=1h":                    "2",
		"age<1d":                     "123",
		"-age<1w":                    "4",
		"meta.job:812":               "1",
		"meta.job:*":                 "13",
		`meta.job:""`:                "3",
		"-meta.other:x":              "1234",
		`"10.0.0.4:80"`:              "4",
		"10.0.0.4:80":                "4",
	} {
		a, _, err := macs.Read(url.Values{"q": {q}})
		if err != nil {
			t.Errorf("%s: %v", q, err)
			continue
		}
		if got := ids(a.Page(some, now).Rows); got != want {
			t.Errorf("%s: got %s, want %s", q, got, want)
		}
	}
}

func TestMistakesAreToldWithWhatIsMeant(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]string{
		"q=stat:active":                         `q: unknown key "stat"; is "state" meant?`,
		"q=memory>16G":                          `q: unknown key "memory": there are name, state, group, ram, age, meta.KEY; a word with : in it goes in quotes`,
		"q=meta.:x":                             `q: unknown key "meta.": there are name, state, group, ram, age, meta.KEY; a word with : in it goes in quotes`,
		"q=state:activ":                         `q: unknown value "activ" of state; is "Active" meant?`,
		"q=state:gone":                          `q: unknown value "gone" of state: there are Active, Offline`,
		"q=state:":                              `q: state: needs a value; an empty one is written ""`,
		"q=state:Active,":                       `q: state: needs a value; an empty one is written ""`,
		"q=state>Active":                        `q: state has no order: it is compared by :, as in state:VALUE`,
		"q=ram>much":                            `q: ram>much: it is not a number, such as 12, 0.5 or 16G`,
		"q=ram>1,2":                             `q: ram> takes one value, not a list`,
		"q=age<5":                               `q: age<5: a time needs a unit, as in 5s or 5m`,
		"q=age<soon":                            `q: age<soon: it is not a time, such as 90s, 5m, 2h, 3d or 1w`,
		"q=age:5m":                              `q: age is compared by < and >, as in age<5m`,
		`q=name:"mac`:                           `q: a quote is not closed: "mac"`,
		"q=-":                                   `q: a word is missing at ""`,
		`q=""`:                                  `q: a word is missing at ""`,
		"q=%ff":                                 `q: the query is not UTF-8`,
		"q=a%00":                                `q: the query has a NUL`,
		"q=" + strings.Repeat("a", MaxLength+1): `q: the query has 1025 bytes, 1024 at most`,
		"q=" + strings.Repeat("a+", MaxTerms+1): `q: the query has more than 64 terms and values`,
		"q=a&q=b":                               `q is given twice`,
		"sort=nam":                              `sort: unknown key "nam"; is "name" meant?`,
		"sort=-meta.job":                        `sort: unknown key "meta.job": there are name, state, group, ram, age`,
		"limit=0":                               `limit "0": it must be a number from 1 to 10000`,
		"limit=all":                             `limit "all": it must be a number from 1 to 10000`,
		"after=x":                               `after "x" is not where a list ended: take X-Next of the answer before`,
		"sort=ram&after=" + cursor{Sort: "-age", ID: "1"}.String(): `after is of a list with sort=-age: repeat it`,
	} {
		asked, err := url.ParseQuery(values)
		if err != nil {
			t.Fatal(err)
		}
		if _, given, err := macs.Read(asked); err == nil || err.Error() != want || !given {
			t.Errorf("%.80s: got %v, want %s", values, err, want)
		}
	}
}

func TestNoParameterMeansTheListAsEver(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]bool{"": false, "id=1": false, "q=": false, "q=a": true, "limit=1": true, "sort=ram": true} {
		asked, _ := url.ParseQuery(values)
		if _, given, err := macs.Read(asked); given != want || err != nil {
			t.Errorf("%s: given %t, %v", values, given, err)
		}
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	for sort, want := range map[string]string{
		"": "1234", "name": "4123", "-name": "3214", "ram": "3214", "-ram": "1234", "age": "1324", "-age": "2314", "group": "1234", "state": "1342",
	} {
		a, _, err := macs.Read(url.Values{"sort": {sort}})
		if err != nil {
			t.Fatal(err)
		}
		if got := ids(a.Page(some, now).Rows); got != want {
			t.Errorf("sort=%s: got %s, want %s", sort, got, want)
		}
	}
}

// rows draws a list whose ids are different and whose keys often are not.
func rows(t *rapid.T) []mac {
	n := rapid.IntRange(0, 30).Draw(t, "rows")
	out := make([]mac, n)
	for i := range out {
		out[i] = mac{
			id: fmt.Sprint(i), name: rapid.SampledFrom([]string{"a", "B", "b", "ab", "mac one"}).Draw(t, "name"),
			state:  rapid.SampledFrom([]string{"Active", "Offline"}).Draw(t, "state"),
			groups: rapid.SliceOfN(rapid.SampledFrom([]string{"ios", "big"}), 0, 2).Draw(t, "groups"),
			ram:    float64(rapid.IntRange(0, 3).Draw(t, "ram")),
		}
		if rapid.Bool().Draw(t, "seen") {
			out[i].seen = now.Add(-time.Duration(rapid.IntRange(0, 3).Draw(t, "age")) * time.Minute)
		}
	}
	return out
}

var asks = rapid.SampledFrom([]string{"", "a", "state:active", "state:active,offline", "group:ios,big", "ram>1", "ram<=1", "age<2m", "name:a*", `"mac one"`})

// Parts of any size, one after another, are the whole list: also while rows are removed
// that have been told.
func TestPartsAreTheWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := rows(t)
		values := url.Values{
			"q":    {asks.Draw(t, "q")},
			"sort": {rapid.SampledFrom([]string{"", "name", "-name", "ram", "-ram", "age", "-age", "group"}).Draw(t, "sort")},
		}
		read := func() Ask[mac] {
			a, _, err := macs.Read(values)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		whole := read().Page(all, now)
		if whole.Total != len(whole.Rows) || whole.Next != "" {
			t.Fatalf("without a limit: %d of %d, next %q", len(whole.Rows), whole.Total, whole.Next)
		}
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		values.Set("limit", fmt.Sprint(limit))
		removes := rapid.Bool().Draw(t, "removes")
		left, parts := all, ""
		for {
			p := read().Page(left, now)
			if len(p.Rows) > limit || p.Next != "" && len(p.Rows) != limit {
				t.Fatalf("a part has %d rows of %d, next %q", len(p.Rows), limit, p.Next)
			}
			parts += ids(p.Rows) + " "
			if p.Next == "" {
				break
			}
			values.Set("after", p.Next)
			if removes {
				gone := p.Rows[0].id
				left = slices.DeleteFunc(slices.Clone(left), func(m mac) bool { return m.id == gone })
			}
		}
		if got, want := strings.ReplaceAll(parts, " ", ""), ids(whole.Rows); got != want {
			t.Fatalf("parts %s, whole %s", parts, want)
		}
	})
}

// A minus turns a term over, and a list is each of its values.
func TestMinusAndLists(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := rows(t)
		match := func(q string) []bool {
			parsed, err := macs.Parse(q)
			if err != nil {
				t.Fatal(err)
			}
			var out []bool
			for i := range all {
				out = append(out, parsed.Match(&all[i], now))
			}
			return out
		}
		q := rapid.SampledFrom([]string{"a", "state:active", "group:ios,big", "ram>1", "age<2m", "name:a*"}).Draw(t, "q")
		yes, no := match(q), match("-"+q)
		both, ios, big := match("group:ios,big"), match("group:ios"), match("group:big")
		for i := range all {
			if yes[i] == no[i] {
				t.Fatalf("%s is %t for %+v, and with a minus too", q, yes[i], all[i])
			}
			if both[i] != (ios[i] || big[i]) {
				t.Fatalf("a list is not each of its values for %+v", all[i])
			}
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, q := range []string{"", "mac -two", `name:"a b",c* -state:active ram>=16G age<5m`, `meta.job:"" "x\"y\\"`, "a:b:c", "--a", `-"-a"`, `name:"`, "ram>1e309", "age<8191w", "state:*", "é:ü", "name:a\\b"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := macs.Parse(text)
		if err != nil {
			if len(err.Error()) > 400 {
				t.Errorf("the error has %d bytes: %v", len(err.Error()), err)
			}
			return
		}
		written := q.String()
		again, err := macs.Parse(written)
		if err != nil && len(written) <= MaxLength {
			t.Fatalf("%q is written as %q: %v", text, written, err)
		}
		if err != nil {
			return // quotes have made it longer than it may be
		}
		if again.String() != written {
			t.Fatalf("%q is written as %q, and that as %q", text, written, again)
		}
		for i := range some {
			if q.Match(&some[i], now) != again.Match(&some[i], now) {
				t.Fatalf("%q and %q differ at %+v", text, written, some[i])
			}
		}
	})
}
