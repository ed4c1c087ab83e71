package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// writeDocs asks the programs, built for this machine, for their manual pages
// and completions.
func (r *release) writeDocs(ctx context.Context) error {
	if err := r.build(ctx, host()); err != nil {
		return err
	}
	for _, name := range programs {
		for _, d := range []struct{ path, command, shell string }{
			{r.manual(name), "man", ""}, {r.completion(name, "bash"), "completion", "bash"},
			{r.completion(name, "zsh"), "completion", "zsh"}, {r.completion(name, "fish"), "completion", "fish"},
		} {
			args := []string{d.command}
			if d.shell != "" {
				args = append(args, d.shell)
			}
			cmd := exec.CommandContext(ctx, filepath.Join(r.binaries(host()), name), args...)
			// Settings of this machine would stand in the pages as defaults.
			cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}
			text, err := cmd.Output()
			if err != nil {
				return fmt.Errorf("%s %v: %w", name, args, err)
			}
			if d.command == "man" {
				if text, err = zipped(text); err != nil {
					return err
				}
			}
			if err := os.MkdirAll(filepath.Dir(d.path), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(d.path, text, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *release) manual(name string) string { return filepath.Join(r.work, "docs", name+".8.gz") }

func (r *release) completion(name, shell string) string {
	return filepath.Join(r.work, "docs", name+"."+shell)
}

// zipped compresses without a name and a time.
func zipped(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	err = w.Close() // before the bytes are taken
	return b.Bytes(), err
}
