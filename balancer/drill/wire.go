package drill

import "time"

// FakeCommand is the hidden sub-command under which the binary is one of the
// fakes. The first argument after it is the kind: "backend" or "memory".
const FakeCommand = "drill-fake"

// What the load, the fakes and the memory say to each other.
const (
	headerKey     = "Idempotency-Key"
	headerRequest = "X-Drill-Request" // one id per logical request, the same in every attempt
	headerSize    = "X-Drill-Size"    // how many bytes the answer is to have; none: a short JSON document
	headerBackend = "X-Drill-Backend" // which fake answered

	pathCall  = "/api/v1/vm"
	pathReady = "/readyz"
	pathBlob  = "/v2/drill/blobs/" // + digest
)

// behaviour is how a fake answers. The zero value is good.
type behaviour struct {
	Status  int           `json:"status,omitempty"`  // answer with this instead of working
	Delay   time.Duration `json:"delay,omitempty"`   // answer this late
	Reset   resetPoint    `json:"reset,omitempty"`   // cut the connection there
	Endless endless       `json:"endless,omitempty"` // send bodies without a length, and without an end
	Hang    bool          `json:"hang,omitempty"`    // do not answer
	Ready   bool          `json:"ready,omitempty"`   // the readiness check stays good
	Posts   bool          `json:"posts,omitempty"`   // all this for POSTs alone
	Every   int64         `json:"every,omitempty"`   // all this for each Every-th request alone
}

type resetPoint string

const (
	resetBeforeBody resetPoint = "before" // nothing of the answer is sent
	resetMidBody    resetPoint = "mid"    // the header and half of the body are sent
)

type endless string

const (
	endlessSilence endless = "silence" // half of the body, then nothing
	endlessBytes   endless = "bytes"   // it goes on for as long as it is read
)

// answer is the body of a fake's reply to a call.
type answer struct {
	Status  string `json:"status"`
	Request string `json:"request"`
	Backend string `json:"backend"`
	Filler  string `json:"filler,omitempty"`
}

// application is a write that a fake wants to run.
type application struct {
	Key     string `json:"key,omitempty"`
	Request string `json:"request"`
	Backend string `json:"backend"`
}

// applied says who ran it: this fake now, or another one earlier.
type applied struct {
	Backend string `json:"backend"`
	Earlier bool   `json:"earlier,omitempty"`
}

// ledger is everything the memory counted.
type ledger struct {
	// Effects is how often each request id ran.
	Effects map[string]int `json:"effects"`
	// Absorbed is how many repeats were answered from memory instead of run.
	Absorbed int `json:"absorbed"`
}
