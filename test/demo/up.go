package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/test/localcloud"
)

// upDir is where `make up` keeps its cloud, below the checkout.
const upDir = ".up"

func upConfig(bin string) (localcloud.Config, error) {
	dir, err := filepath.Abs(upDir)
	return localcloud.Config{Bin: bin, Dir: dir, NodeName: nodeName, KeepRunning: true,
		Hosts: []localcloud.Ports{
			{Controller: 8090, Registry: 8089, Client: 2379, Peer: 2380},
			{Controller: 8190, Registry: 8189, Client: 2479, Peer: 2480},
			{Controller: 8290, Registry: 8289, Client: 2579, Peer: 2580}}}, err
}

// up starts the cloud and leaves it running.
func up(ctx context.Context, bin string) (err error) {
	cfg, err := upConfig(bin)
	if err != nil {
		return err
	}
	if _, err := os.Stat(cfg.Dir); err == nil {
		return errors.New("a cloud of an earlier `make up` is here already; end it with `make down` first")
	}
	cloud, err := localcloud.New(cfg)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil { // half a cloud helps nobody
			cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), 40*time.Second)
			defer cancel()
			err = errors.Join(err, cloud.Stop(cleanup), os.RemoveAll(cfg.Dir))
		}
	}()
	fmt.Println("starting three hosts, each with controller, registry and etcd member ...")
	if err := cloud.Start(ctx); err != nil {
		return err
	}
	fmt.Println("joining a node ...")
	if _, err := cloud.Join(ctx, "--max-vm-count", "8", "--ignore-arm-vm-limit"); err != nil {
		return err
	}
	fmt.Println("pushing template \"demo\" with tag v1 ...")
	if _, err := cloud.Anka(ctx, "create", templateName, "--size", templateSize); err != nil {
		return err
	}
	if _, err := cloud.Anka(ctx, "registry", "-o2", "-r", cloud.RegistryURL(0), "push", templateName, "-t", "v1"); err != nil {
		return err
	}
	template, err := findTemplate(ctx, registryapi.NewClient(cloud.RegistryURL(0), &http.Client{Timeout: 10 * time.Second}))
	if err != nil {
		return err
	}
	fmt.Printf(upText, cloud.ControllerURL(0), cloud.ControllerURL(1), cloud.ControllerURL(2),
		cloud.RegistryURL(0), cloud.RegistryURL(1), cloud.RegistryURL(2),
		template.ID, filepath.Join(cfg.Dir, "node"), filepath.Join(bin, "ankacluster"),
		filepath.Join(upDir, "run", "host-1"), filepath.Join(upDir, "host-1"), filepath.Join(upDir, "log"))
	return nil
}

const upText = `
The cloud is up: three hosts, each with controller, registry and etcd member.
  controllers  %[1]s  %[2]s  %[3]s
  registries   %[4]s  %[5]s  %[6]s  (they are one)
  node         demo-node, Active; template "demo" with tag v1

Three things to try:
  1. start a VM through one controller, look at it through another:
       curl -d '{"vmid":"%[7]s","tag":"v1"}' %[1]s/api/v1/vm
       curl %[2]s/api/v1/vm
  2. see what the node knows of its controllers and registries:
       ANKA_STATE_DIR=%[8]s %[9]s status
  3. lose a host with its disk, look what the node makes of it, bring it back:
       kill -9 $(cat %[10]s.pid) && rm -r %[11]s
       ANKA_STATE_DIR=%[8]s %[9]s endpoints --watch     (down within a second)
       %[9]s template list --copies --url %[2]s
       %[10]s.sh
       ANKA_STATE_DIR=%[8]s %[9]s endpoints --watch     (it returns by and by)

The node's hypervisor is a fake anka: it starts no macOS, and so takes no time.
Logs are in %[12]s, the agent's: ANKA_STATE_DIR=%[8]s %[9]s logs
End it with: make down
`

// down ends what up left running.
func down(ctx context.Context, bin string) error {
	cfg, err := upConfig(bin)
	if err != nil {
		return err
	}
	if _, err := os.Stat(cfg.Dir); errors.Is(err, os.ErrNotExist) {
		fmt.Println("nothing is up")
		return nil
	}
	fmt.Println("ending the node, its VMs and the servers ...")
	if err := localcloud.Down(ctx, cfg, func(what string) { fmt.Println("  " + what) }); err != nil {
		return err
	}
	if err := os.RemoveAll(cfg.Dir); err != nil {
		return err
	}
	fmt.Println("the cloud is down; its data is removed")
	return nil
}
