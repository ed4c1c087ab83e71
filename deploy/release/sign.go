package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"aead.dev/minisign"
)

// sums is the file with the checksums of all others.
const sums = "SHA256SUMS"

// sign writes the checksums, and their signature where a key is given. It tells
// what was made.
func (r *release) sign() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var list bytes.Buffer
	for _, e := range entries { // sorted by name
		sum, err := r.sum(e.Name())
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%s  %s\n", sum, e.Name())
		r.say("%8.1f MB  %s", float64(info.Size())/1e6, e.Name())
	}
	if err := os.WriteFile(filepath.Join(r.out, sums), list.Bytes(), 0o644); err != nil {
		return err
	}
	if r.key == nil {
		r.say("not signed: no key was given; agents refuse to be upgraded to what this release brings")
		return nil
	}
	signature := minisign.SignWithComments(*r.key, list.Bytes(), fmt.Sprintf("ankacluster %s %s", r.version, r.commit), "signature of the ankacluster release key")
	if err := os.WriteFile(filepath.Join(r.out, sums+".minisig"), signature, 0o644); err != nil {
		return err
	}
	public, err := r.key.Public().(minisign.PublicKey).MarshalText()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.out, "ankacluster.pub"), append(public, '\n'), 0o644); err != nil {
		return err
	}
	r.say("signed: minisign -V -p ankacluster.pub -m %s", sums)
	return nil
}

// signAgents signs the agent's programs for Macs, each as what it is: agents run
// nothing else (agent/upgrade).
func (r *release) signAgents() error {
	if r.key == nil {
		return nil
	}
	for name, p := range agentPlatforms {
		if !r.has(p) {
			continue
		}
		f, err := os.Open(filepath.Join(r.binaries(p), "ankacluster"))
		if err != nil {
			return err
		}
		content := minisign.NewReader(f)
		size, err := io.Copy(io.Discard, content)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		statement := fmt.Sprintf("ankacluster %s %s %d", r.version, p, size)
		signature := content.SignWithComments(*r.key, statement, "signature of the ankacluster release key")
		if err := os.WriteFile(r.agentSignature(name), signature, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) agentSignature(name string) string {
	return filepath.Join(r.work, name+".minisig")
}

// readKey reads a key as minisign writes it, with or without a password.
func readKey(path, password string) (minisign.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return minisign.PrivateKey{}, err
	}
	if minisign.IsEncrypted(text) {
		if password == "" {
			return minisign.PrivateKey{}, errors.New("the signing key has a password: set MINISIGN_PASSWORD")
		}
		return minisign.DecryptKey(password, text)
	}
	var key minisign.PrivateKey
	err = key.UnmarshalText(text)
	return key, err
}
