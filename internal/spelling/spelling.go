// Package spelling finds the word that somebody meant.
package spelling

import "iter"

// Nearest returns the word that is at most two slips away from what was written:
// a letter too much, one missing, a wrong one, or two changed over. Of a short word
// one slip is forgiven, of one or two letters none. It is "" when no word is near.
func Nearest(written string, words iter.Seq[string]) string {
	allowed := 2
	switch n := len(written); {
	case n < 3:
		allowed = 0
	case n < 5:
		allowed = 1
	}
	best, found := allowed+1, ""
	for w := range words {
		if d := distance(written, w); d < best {
			best, found = d, w
		}
	}
	return found
}

// distance counts the slips between two words: Damerau and Levenshtein's, where
// letters that changed places count once.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			wrong := 1
			if a[i-1] == b[j-1] {
				wrong = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+wrong)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
