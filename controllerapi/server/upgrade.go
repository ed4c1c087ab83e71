package server

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/google/uuid"
)

// packages are the agent packages by host architecture.
var packages = map[string]string{"amd64": "AnkaAgent.pkg", "arm64": "AnkaAgentArm.pkg"}

// signatureSuffix is what the name of a package's signature ends in. Agents run
// nothing that a key they trust has not signed.
const signatureSuffix = ".minisig"

// packageFile serves an agent package, or its signature.
func (s *Server) packageFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	for _, known := range packages {
		if strings.TrimSuffix(name, signatureSuffix) == known && s.cfg.PackageDir != "" {
			http.ServeFile(w, r, filepath.Join(s.cfg.PackageDir, name))
			return
		}
	}
	s.notFound(w, r)
}

// upgradeNodes asks every node that has another version for an upgrade of its
// agent.
func (s *Server) upgradeNodes(r *http.Request) (any, error) {
	switch {
	case s.cfg.NoNodeUpgrades:
		return nil, wire.Fail("node upgrades are turned off (ANKA_NO_NODE_UPGRADES)")
	case s.cfg.PackageDir == "":
		return nil, wire.Fail("the controller has no agent packages")
	}
	job := cloud.Rollout{ID: uuid.NewString(), Kind: api.TaskUpgrade, Upgrade: make(map[string]*api.UpgradeTask)}
	for arch, name := range packages {
		sum, err := fileSum(filepath.Join(s.cfg.PackageDir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("agent package: %w", err)
		}
		if _, err := os.Stat(filepath.Join(s.cfg.PackageDir, name+signatureSuffix)); err != nil {
			return nil, wire.Failf("the agent package %s is not signed: agents run signed programs only, and %s%s is not beside it", name, name, signatureSuffix)
		}
		job.Upgrade[arch] = &api.UpgradeTask{Version: s.cfg.Version, Path: "/pkg/" + name, SHA256: sum}
	}
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	s.store.Read(func(v *cloud.View) {
		for _, n := range sortedNodes(v) {
			if n.Facts.AgentVersion != s.cfg.Version && job.Upgrade[n.Facts.HostArch] != nil {
				job.Nodes = append(job.Nodes, n.ID)
			}
		}
	})
	if len(job.Nodes) == 0 {
		return nil, nil
	}
	return nil, s.store.CreateRollout(r.Context(), job, nil)
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
