package main

import (
	"bytes"
	"errors"
	"fmt"
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
	if r.keyFile == "" {
		r.say("not signed: no key was given")
		return nil
	}
	key, err := readKey(r.keyFile, os.Getenv("MINISIGN_PASSWORD"))
	if err != nil {
		return err
	}
	signature := minisign.SignWithComments(key, list.Bytes(), fmt.Sprintf("ankacluster %s %s", r.version, r.commit), "signature of the ankacluster release key")
	if err := os.WriteFile(filepath.Join(r.out, sums+".minisig"), signature, 0o644); err != nil {
		return err
	}
	public, err := key.Public().(minisign.PublicKey).MarshalText()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.out, "ankacluster.pub"), append(public, '\n'), 0o644); err != nil {
		return err
	}
	r.say("signed: minisign -V -p ankacluster.pub -m %s", sums)
	return nil
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
