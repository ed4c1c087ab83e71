package upgrade

import (
	"errors"
	"fmt"
	"strings"

	"aead.dev/minisign"
)

// keys are the public keys of the release, in base64 and separated by commas. The
// linker sets them (-X); a build from source has none.
var keys string

// Trust says whose programs this agent runs, and on what.
type Trust struct {
	Keys     []minisign.PublicKey
	OS, Arch string // of this machine
	Running  string // version
}

// ParseKey reads a minisign public key: its line in base64, or a file's content.
func ParseKey(text string) (minisign.PublicKey, error) {
	var key minisign.PublicKey
	if len(text) > 1024 {
		return key, errors.New("too long for a minisign public key")
	}
	if err := key.UnmarshalText([]byte(strings.TrimSpace(text))); err != nil {
		return key, errors.New("not a minisign public key")
	}
	return key, nil
}

// Keys returns those that were compiled in and others in base64.
func Keys(others []string) ([]minisign.PublicKey, error) {
	var list []minisign.PublicKey
	for _, text := range append(strings.FieldsFunc(keys, func(r rune) bool { return r == ',' }), others...) {
		key, err := ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("upgrade key %.20q: %w", text, err)
		}
		list = append(list, key)
	}
	return list, nil
}

// maxSignature bounds a signature, which has some 300 bytes.
const maxSignature = 4 << 10

// check reads a signature and returns its statement, and the key that made it if
// the signature is what it says. The statement is proven by verify alone.
func (t Trust) check(signature []byte, announced string, confirmed ...string) (Statement, minisign.PublicKey, error) {
	var sig minisign.Signature
	var key minisign.PublicKey
	if err := sig.UnmarshalText(signature); err != nil {
		return Statement{}, key, errors.New("its signature is no minisign signature")
	}
	if sig.Algorithm != minisign.HashEdDSA {
		return Statement{}, key, errors.New("its signature is of minisign's old kind; sign again, without -l")
	}
	if len(t.Keys) == 0 {
		return Statement{}, key, errors.New("this agent knows no key: join again with --upgrade-key")
	}
	found := false
	for _, k := range t.Keys {
		if k.ID() == sig.KeyID {
			key, found = k, true
		}
	}
	if !found {
		return Statement{}, key, fmt.Errorf("it is signed with key %X, which this agent does not trust", sig.KeyID)
	}
	s, err := ParseStatement(sig.TrustedComment)
	if err != nil {
		return s, key, err
	}
	return s, key, s.fits(announced, t.OS, t.Arch, append(confirmed, t.Running)...)
}
