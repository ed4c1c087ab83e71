package wire

import "fmt"

// Measure looks through a JSON document before it is decoded, and reports that it
// has more than so many values, or is too deep. What is not JSON is the decoder's to find.
func Measure(data []byte, most int) error {
	values, depth := 1, 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			continue
		case '{', '[':
			depth++
			if depth > MaxDepth {
				return fmt.Errorf("lists and objects are more than %d deep in one another", MaxDepth)
			}
		case '}', ']':
			depth--
			continue
		case ',':
		default:
			continue
		}
		if values++; values > most {
			return fmt.Errorf("it consists of more than %d values", most)
		}
	}
	return nil
}
