package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/controllerapi/etcdmember"
	"github.com/ankacluster/ankacluster/internal/settings"
)

// etcdCommand looks after the cloud's etcd, embedded or own.
func etcdCommand(env func(string) (string, bool), out *output) *cli.Command {
	stdout := out.stdout
	withAdmin := func(do func(*cli.Context, *etcdmember.Admin) error) cli.ActionFunc {
		return func(cc *cli.Context) error {
			c, errs := loadConfig(cc, env)
			c.validateEtcd(func(name, format string, args ...any) {
				errs = append(errs, fmt.Errorf("%s: %s", c.name(name), fmt.Sprintf(format, args...)))
			}, func(string, string, bool, string) {})
			if err := errors.Join(errs...); err != nil {
				return usageError{err}
			}
			tc, err := c.etcdTLSConfig()
			if err != nil {
				return usageError{err}
			}
			cfg := etcdmember.ClientConfig{Endpoints: withScheme(c.EtcdEndpoints, c.EtcdTLS), TLS: tc}
			if c.EtcdLogin {
				cfg.Username, cfg.Password = c.EtcdUser, c.EtcdPassword
			}
			admin, err := etcdmember.NewAdmin(cfg)
			if err != nil {
				return err
			}
			defer admin.Close()
			return do(cc, admin)
		}
	}
	reach := settings.Flags(only("ANKA_ETCD_ENDPOINTS", "ANKA_USE_ETCD_TLS", "ANKA_ETCD_CA_CERT", "ANKA_ETCD_CERT", "ANKA_ETCD_CERT_KEY",
		"ANKA_SKIP_ETCD_TLS_VERIFICATION", "ANKA_USE_ETCD_LOGIN", "ANKA_ETCD_USERNAME"))
	asJSON := &cli.BoolFlag{Name: "json", Aliases: []string{"j", "machine-readable"}, Usage: "print JSON", DisableDefaultText: true}
	sub := func(name, usage, args, example string, action cli.ActionFunc, fs ...cli.Flag) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, ArgsUsage: args, Description: "Example: " + example,
			Flags: fs, Action: action, OnUsageError: onUsageError, HideHelpCommand: true}
	}
	return &cli.Command{
		Name: "etcd", Usage: "look after the cloud's etcd: status, members, snapshots", HideHelpCommand: true, OnUsageError: onUsageError,
		Action: func(cc *cli.Context) error {
			if cc.Args().Present() {
				return usageError{fmt.Errorf("unknown command %q; see %s etcd --help", cc.Args().First(), program)}
			}
			return cli.ShowSubcommandHelp(cc)
		},
		Subcommands: []*cli.Command{
			sub("status", "how every member is; exit code 1 if one is not well", "", "anka-controller etcd status",
				withAdmin(func(cc *cli.Context, a *etcdmember.Admin) error { return etcdStatus(cc, a, stdout) }), append(slices.Clone(reach), asJSON)...),
			sub("members", "the list of members", "", "anka-controller etcd members",
				withAdmin(func(cc *cli.Context, a *etcdmember.Admin) error { return etcdMembers(cc, a, stdout) }), append(slices.Clone(reach), asJSON)...),
			sub("remove", "take a member that is gone for good out of the cluster", "ID|HOST", "anka-controller etcd remove 10.0.1.6",
				withAdmin(func(cc *cli.Context, a *etcdmember.Admin) error {
					if cc.NArg() != 1 {
						return usageError{errors.New("name one member, by its id or its host")}
					}
					m, err := a.Remove(cc.Context, cc.Args().First())
					if err == nil {
						fmt.Fprintf(stdout, "removed %x (%s)\n", m.ID, strings.Join(m.PeerURLs, " "))
					}
					return err
				}), reach...),
			sub("snapshot", "write the whole state to a file, while everything goes on", "FILE", "anka-controller etcd snapshot /backup/cloud-$(date +%F).db",
				withAdmin(func(cc *cli.Context, a *etcdmember.Admin) error {
					if cc.NArg() != 1 {
						return usageError{errors.New("name the file to write")}
					}
					s, err := a.Snapshot(cc.Context, cc.Args().First())
					if err == nil {
						fmt.Fprintf(stdout, "%s: revision %d, %d keys, %d bytes\n", cc.Args().First(), s.Revision, s.TotalKey, s.TotalSize)
					}
					return err
				}), reach...),
			sub("defrag", "give unused database space back, member by member, and lift the alarm of a full database", "", "anka-controller etcd defrag",
				withAdmin(func(cc *cli.Context, a *etcdmember.Admin) error {
					return a.Defrag(cc.Context, func(line string) { fmt.Fprintln(stdout, line) })
				}), reach...),
			restoreCommand(env, stdout),
			etcdRunCommand(env, out),
		},
	}
}

func restoreCommand(env func(string) (string, bool), stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name: "restore", Usage: "begin again from a snapshot, on one host; the controller there must be stopped", ArgsUsage: "FILE",
		Description: "Stop anka-controller on all hosts, restore on one of them with the same --data-dir and\n" +
			"--cluster as the service, move the directory etcd below the data directory of each other host\n" +
			"away, then start all: the others join the restored one. When a majority of the disks is lost,\n" +
			"FILE may be the database of a host that is left: DATA-DIR/etcd/member/snap/db, with --bare.\n\n" +
			"Example: anka-controller etcd restore --cluster 10.0.1.4,10.0.1.5,10.0.1.6 /backup/cloud.db",
		HideHelpCommand: true, OnUsageError: onUsageError,
		Flags: append(settings.Flags(only("ANKA_DATA_DIR", "ANKA_CLUSTER", "ANKA_CLUSTER_SELF", "ANKA_ETCD_TLS_CA", "ANKA_ETCD_TLS_CERT", "ANKA_ETCD_TLS_KEY")),
			&cli.BoolFlag{Name: "bare", Usage: "FILE was copied from a data directory and has no checksum", DisableDefaultText: true}),
		Action: func(cc *cli.Context) error {
			c, errs := loadConfig(cc, env)
			if cc.NArg() != 1 {
				errs = append(errs, errors.New("name the snapshot file"))
			}
			c.complete()
			m, err := c.memberConfig()
			if err := errors.Join(append(errs, err)...); err != nil {
				return usageError{err}
			}
			unlock, err := c.lockDataDir()
			if err != nil {
				return err
			}
			defer unlock()
			aside, err := etcdmember.Restore(cc.Context, m, cc.Args().First(), cc.Bool("bare"))
			if err != nil {
				return err
			}
			fmt.Fprintf(stdout, "restored into %s\n", m.DataDir)
			if aside != "" {
				fmt.Fprintf(stdout, "what was there is in %s\n", aside)
			}
			if len(m.Cluster) > 1 {
				fmt.Fprintf(stdout, "next: move the directory etcd below the data directory of each other host away, then start anka-controller on all hosts\n")
			} else {
				fmt.Fprintf(stdout, "next: start anka-controller\n")
			}
			return nil
		},
	}
}

func etcdStatus(cc *cli.Context, a *etcdmember.Admin, stdout io.Writer) error {
	statuses, err := a.Status(cc.Context)
	if err != nil {
		return err
	}
	sick := 0
	for _, s := range statuses {
		if len(s.Errors) > 0 {
			sick++
		}
	}
	if cc.Bool("json") {
		if err := printJSON(stdout, statuses); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ENDPOINT\tID\tROLE\tVERSION\tDB MB\tIN USE MB\tRAFT INDEX\tTROUBLE")
		for _, s := range statuses {
			role := "voter"
			switch {
			case s.Leader:
				role = "leader"
			case s.Learner:
				role = "learner"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.1f\t%.1f\t%d\t%s\n", s.Endpoint, s.ID, role, s.Version, float64(s.Bytes)/(1<<20), float64(s.InUse)/(1<<20), s.RaftIndex, strings.Join(s.Errors, "; "))
		}
		w.Flush()
	}
	if sick > 0 {
		return fmt.Errorf("%d of %d members are not well", sick, len(statuses))
	}
	return nil
}

func etcdMembers(cc *cli.Context, a *etcdmember.Admin, stdout io.Writer) error {
	members, confirmed, err := a.Members(cc.Context)
	if err != nil {
		return err
	}
	type entry struct {
		ID         string   `json:"id"`
		Name       string   `json:"name"`
		PeerURLs   []string `json:"peer_urls"`
		ClientURLs []string `json:"client_urls"`
		Learner    bool     `json:"learner"`
	}
	entries := []entry{}
	for _, m := range members {
		entries = append(entries, entry{fmt.Sprintf("%x", m.ID), m.Name, m.PeerURLs, m.ClientURLs, m.Learner})
	}
	if cc.Bool("json") {
		err = printJSON(stdout, entries)
	} else {
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tHOST\tPEER\tCLIENT\tVOTES")
		for _, e := range entries {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%t\n", e.ID, e.Name, strings.Join(e.PeerURLs, " "), strings.Join(e.ClientURLs, " "), !e.Learner)
		}
		w.Flush()
	}
	if err == nil && !confirmed {
		err = errors.New("the cluster has no majority now; this list is what one member remembers")
	}
	return err
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
