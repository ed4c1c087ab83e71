package transfer

import "slices"

// extent is the half-open byte range [From, To).
type extent struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// extents is a sorted list of extents that neither overlap nor touch.
type extents []extent

// add puts [from, to) into the list.
func (e *extents) add(from, to int64) {
	if from >= to {
		return
	}
	list := *e
	i, _ := slices.BinarySearchFunc(list, from, func(x extent, at int64) int {
		if x.To < at {
			return -1
		}
		return 1
	})
	j := i
	for j < len(list) && list[j].From <= to {
		from, to = min(from, list[j].From), max(to, list[j].To)
		j++
	}
	*e = slices.Replace(list, i, j, extent{from, to})
}

func (e extents) total() int64 {
	var n int64
	for _, x := range e {
		n += x.To - x.From
	}
	return n
}

// after returns the parts that lie beyond offset.
func (e extents) after(offset int64) extents {
	var out extents
	for _, x := range e {
		if x.To > offset {
			out = append(out, extent{max(x.From, offset), x.To})
		}
	}
	return out
}

// gaps returns what is missing in [0, size).
func (e extents) gaps(from, size int64) []extent {
	var out []extent
	for _, x := range e {
		if x.From > from {
			out = append(out, extent{from, x.From})
		}
		from = max(from, x.To)
	}
	if from < size {
		out = append(out, extent{from, size})
	}
	return out
}

// valid reports whether a list read from a file can be trusted to be one.
func (e extents) valid(size int64) bool {
	last := int64(-1)
	for _, x := range e {
		if x.From <= last || x.To <= x.From || x.To > size {
			return false
		}
		last = x.To
	}
	return true
}
