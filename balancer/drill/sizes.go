package drill

import (
	"hash/fnv"
	"math/rand/v2"
	"sync"
)

// readAhead is up to where a balancer may hold a whole answer before it passes it on;
// above it an answer is on its way to the caller when its backend breaks.
const readAhead = 1 << 20

// sizeOf is how large an answer the i-th request asks for: most are short documents,
// one in twenty is of 50 to 400 kB, and one in 400 is above readAhead. While a backend
// breaks, only GETs ask for the last kind: those can be continued.
func (l *lane) sizeOf(i int, k kind) int {
	switch {
	case i%401 == 17 && (k == get || l.calm):
		return readAhead + readAhead/4 + i%1000
	case i%20 == 7:
		return 50<<10 + i*7919%(350<<10)
	}
	return 0
}

// pattern is what the bytes of answers are cut from: chance, so that none is like
// another one.
var pattern = sync.OnceValue(func() []byte {
	data := make([]byte, 4<<20)
	chance := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(chance.Uint32())
	}
	return data
})

// sized is the answer of n bytes to a request, the same from every backend.
func sized(id string, n int) []byte {
	h := fnv.New32a()
	h.Write([]byte(id))
	from := int(h.Sum32()) % (len(pattern()) - n)
	return pattern()[from : from+n]
}
