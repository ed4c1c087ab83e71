package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// etcdState is what a member tells in its metrics.
type etcdState struct {
	writes float64 // committed proposals
	size   float64 // bytes of its database
}

// etcdFigures reads a member's metrics; base "" reads nothing.
func etcdFigures(ctx context.Context, base string) (etcdState, error) {
	var s etcdState
	if base == "" {
		return s, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+"/metrics", nil)
	if err != nil {
		return s, fmt.Errorf("--etcd: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, fmt.Errorf("--etcd: %w", err)
	}
	defer resp.Body.Close()
	found := 0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "etcd_server_proposals_committed_total":
			s.writes, found = v, found+1
		case "etcd_mvcc_db_total_size_in_use_in_bytes":
			s.size, found = v, found+1
		}
	}
	if found != 2 {
		return s, fmt.Errorf("--etcd: %s has no metrics of an etcd member", base)
	}
	return s, lines.Err()
}
