package simnode

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// marks is the name of the metadata that Mark makes.
const marks = "mark"

// chance is what marks are cut from, so that no part of one is like another.
var chance = sync.OnceValue(func() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789+/"
	rng := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, 256<<10)
	for i := range text {
		text[i] = letters[rng.IntN(len(letters))]
	}
	return string(text)
})

// Mark returns metadata for the instance whose external ID is key: a text that follows
// from the key, so that every answer which holds the instance can be compared byte by
// byte. It has up to most bytes, which must not be more than 64 KiB.
func Mark(key string, most int) controllerapi.Metadata {
	return controllerapi.Metadata{marks: markOf(key, most), marks + "_most": int64(most)}
}

func markOf(key string, most int) string {
	h := fnv.New32a()
	h.Write([]byte(key))
	from := int(h.Sum32()) % (128 << 10)
	return chance()[from : from+1+int(h.Sum32()>>8)%most]
}

// Damage says what is wrong with the mark of an instance as an answer shows it, "" if
// nothing is, or it has none.
func Damage(i controllerapi.Instance) string {
	got, marked := i.Metadata[marks].(string)
	if !marked {
		if i.ExternalID != "" && i.Metadata != nil {
			return "the mark is missing"
		}
		return ""
	}
	var most int
	if _, err := fmt.Sscan(fmt.Sprint(i.Metadata[marks+"_most"]), &most); err != nil || most < 1 || most > 64<<10 {
		return fmt.Sprintf("the mark's size is %v", i.Metadata[marks+"_most"])
	}
	if want := markOf(i.ExternalID, most); got != want {
		return fmt.Sprintf("the mark of %q has %d bytes that are not the %d that were stored", i.ExternalID, len(got), len(want))
	}
	return ""
}
