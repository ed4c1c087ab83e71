package registryapi

import "strings"

// LatestTag names the newest version unless a tag of that name was pushed.
const LatestTag = "latest"

// Find returns the version with the tag or, without a tag, the number, or the
// newest; nil if there is none. Controllers and registries both go by it. A '+' of
// a tag that was sent raw in a query has become a space.
func (t *Template) Find(tag string, number *int) *Version {
	if len(t.Versions) == 0 {
		return nil
	}
	latest := &t.Versions[len(t.Versions)-1]
	if tag == "" {
		if number == nil {
			return latest
		}
		for k := range t.Versions {
			if t.Versions[k].Number == *number {
				return &t.Versions[k]
			}
		}
		return nil
	}
	for _, name := range []string{tag, strings.ReplaceAll(tag, " ", "+")} {
		for k := range t.Versions {
			if t.Versions[k].Tag == name {
				return &t.Versions[k]
			}
		}
	}
	if tag == LatestTag {
		return latest
	}
	return nil
}
