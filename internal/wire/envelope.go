package wire

import "encoding/json"

// Status words of the envelope. There is no third word in either API.
const (
	StatusOK   = "OK"
	StatusFail = "FAIL"
)

// Envelope is the frame of every JSON answer. Message is always present and
// empty when Status is OK. A nil Body is left out; use NullBody where the
// contract asks for `"body":null`.
type Envelope struct {
	Status  string `json:"status"`
	Message string `json:"message"`
	Body    any    `json:"body,omitempty"`
}

// NullBody encodes as `"body":null`, which the registry's documented answers
// carry where there is nothing to return.
var NullBody = json.RawMessage("null")
