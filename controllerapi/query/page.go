package query

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/internal/spelling"
)

// MaxLimit is the most that limit may be.
const MaxLimit = 10000

// Parameters are those that Read reads.
var Parameters = []string{"q", "sort", "limit", "after"}

// Ask is a query, an order and a part of the list.
type Ask[T any] struct {
	Query  Query[T]
	schema *Schema[T]
	sort   string // as it was written
	by     Field[T]
	down   bool
	limit  int // 0 without one
	after  *cursor
}

// cursor is where a part of a list ended.
type cursor struct {
	Sort string `json:"s"`
	Key  key    `json:"k"`
	ID   string `json:"i"`
}

// key is what a list is sorted by: a row without one comes last.
type key struct {
	None   bool    `json:"x,omitempty"`
	Number float64 `json:"n,omitempty"`
	Time   int64   `json:"t,omitempty"` // Unix nanoseconds
	Text   string  `json:"w,omitempty"`
}

// Read reads the parameters. given is false when there is none of them: the list is to
// be answered whole, as ever.
func (s *Schema[T]) Read(values url.Values) (a Ask[T], given bool, err error) {
	a.schema, a.by = s, s.Default
	for _, name := range Parameters {
		if len(values[name]) > 1 {
			return a, true, fmt.Errorf("%s is given twice", name)
		}
		given = given || values.Get(name) != ""
	}
	if a.Query, err = s.Parse(values.Get("q")); err != nil {
		return a, true, fmt.Errorf("q: %w", err)
	}
	if a.sort = values.Get("sort"); a.sort != "" {
		var name string
		name, a.down = strings.CutPrefix(a.sort, "-")
		if a.by, err = s.sortable(name); err != nil {
			return a, true, fmt.Errorf("sort: %w", err)
		}
	}
	if text := values.Get("limit"); text != "" {
		if a.limit, err = strconv.Atoi(text); err != nil || a.limit < 1 || a.limit > MaxLimit {
			return a, true, fmt.Errorf("limit %q: it must be a number from 1 to %d", cut(text), MaxLimit)
		}
	}
	if text := values.Get("after"); text != "" {
		if a.after, err = readCursor(text); err != nil {
			return a, true, err
		}
		if a.after.Sort != a.sort {
			return a, true, fmt.Errorf("after is of a list with sort=%s: repeat it", cut(a.after.Sort))
		}
	}
	return a, given, nil
}

func (s *Schema[T]) sortable(name string) (Field[T], error) {
	var names []string
	for _, f := range s.Fields {
		if strings.HasSuffix(f.Name, ".") {
			continue // there is no end of them
		}
		if f.Name == name {
			return f, nil
		}
		names = append(names, f.Name)
	}
	if near := spelling.Nearest(name, slices.Values(names)); near != "" {
		return Field[T]{}, fmt.Errorf("unknown key %q; is %q meant?", cut(name), near)
	}
	return Field[T]{}, fmt.Errorf("unknown key %q: there are %s", cut(name), strings.Join(names, ", "))
}

func readCursor(text string) (*cursor, error) {
	data, err := base64.RawURLEncoding.DecodeString(text)
	c := new(cursor)
	if err != nil || len(text) > 4*MaxLength || json.Unmarshal(data, c) != nil || c.ID == "" {
		return nil, fmt.Errorf("after %q is not where a list ended: take X-Next of the answer before", cut(text))
	}
	return c, nil
}

func (c cursor) String() string {
	data, err := json.Marshal(c)
	if err != nil {
		panic("query: a cursor does not encode: " + err.Error()) // a Number is finite
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// Page is a part of a list.
type Page[T any] struct {
	Rows  []*T
	Total int    // how many rows match, before limit and after
	Next  string // after for the part that follows, "" at the end
}

// Page returns the rows that are asked for. Rows that come, go or change between two
// parts of a list neither shift the others nor show them twice.
func (a Ask[T]) Page(rows []T, now time.Time) (p Page[T]) {
	type ranked struct {
		row *T
		at  cursor
	}
	var all []ranked
	for i := range rows {
		if a.Query.Match(&rows[i], now) {
			p.Total++
			r := ranked{&rows[i], cursor{Sort: a.sort, Key: a.by.key(&rows[i]), ID: a.schema.ID(&rows[i])}}
			if a.after == nil || a.compare(r.at, *a.after) > 0 {
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(x, y ranked) int { return a.compare(x.at, y.at) })
	if a.limit > 0 && len(all) > a.limit {
		all = all[:a.limit]
		p.Next = all[a.limit-1].at.String()
	}
	p.Rows = make([]*T, len(all))
	for i, r := range all {
		p.Rows[i] = r.row
	}
	return p
}

// compare orders rows: by key, those without one last, and by id.
func (a Ask[T]) compare(x, y cursor) int {
	switch {
	case x.Key.None != y.Key.None:
		if x.Key.None {
			return 1
		}
		return -1
	case a.down:
		return cmp.Or(y.Key.compare(x.Key), cmp.Compare(x.ID, y.ID))
	}
	return cmp.Or(x.Key.compare(y.Key), cmp.Compare(x.ID, y.ID))
}

func (k key) compare(o key) int {
	// Of two ages the later time is the smaller one.
	return cmp.Or(cmp.Compare(k.Number, o.Number), cmp.Compare(o.Time, k.Time), cmp.Compare(k.Text, o.Text))
}

// key is what a row is sorted by.
func (f *Field[T]) key(row *T) (k key) {
	switch {
	case f.Number != nil:
		n, ok := f.Number(row)
		k.Number, k.None = n, !ok
	case f.Since != nil:
		at := f.Since(row)
		if k.None = at.IsZero(); !k.None {
			k.Time = at.UnixNano()
		}
	case f.Text != nil:
		have := f.Text(row, "")
		if k.None = len(have) == 0; !k.None {
			k.Text = strings.ToLower(have[0])
		}
	}
	return k
}
