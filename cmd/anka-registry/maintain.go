package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/backoff"
	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/progress"
	"github.com/ankacluster/ankacluster/internal/settings"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/content/fs"
)

// commands look after a store on disk, beside running servers.
func commands() []*cli.Command {
	jsonFlag := &cli.BoolFlag{Name: "machine-readable", Aliases: []string{"json", "j"}, Usage: "print JSON"}
	return []*cli.Command{
		readyCommand(settings.PackagedFile("anka-registry")),
		{
			Name: "version", Hidden: true, Usage: "print version, commit, date and Go version",
			Action: func(c *cli.Context) error {
				_, err := fmt.Fprintln(c.App.Writer, buildinfo.Line("anka-registry"))
				return err
			},
		},
		{
			Name: "verify", Usage: "hash all content again and check that every tag can be pulled",
			Description: "Exit status 1 means that damage was found and is not repaired.\n\nanka-registry --base-path /var/lib/anka-registry verify --repair --from http://10.0.1.5:8089",
			Flags: []cli.Flag{jsonFlag,
				&cli.BoolFlag{Name: "repair", Usage: "fetch what is damaged from --from, and move what cannot be fetched to the quarantine directory"},
				&cli.StringSliceFlag{Name: "from", Usage: "`URL` of a registry with the same content; may be given several times"}},
			Action: verify,
		},
		{
			Name: "gc", Usage: "remove content that nothing refers to",
			Description: "Safe beside running servers as long as --grace is longer than a push pauses.\n\nanka-registry --base-path /var/lib/anka-registry gc --grace 1h --dry-run",
			Flags: []cli.Flag{jsonFlag,
				&cli.DurationFlag{Name: "grace", Value: 2 * time.Hour, Usage: "keep unreferenced content for `DURATION`; 0 only while nobody pushes"},
				&cli.DurationFlag{Name: "untagged", Value: 24 * time.Hour, Usage: "keep manifests without a tag for `DURATION`; 0 is for ever"},
				&cli.BoolFlag{Name: "dry-run", Usage: "only count"}},
			Action: collect,
		},
		{
			Name: "stats", Usage: "count what is stored",
			Description: "anka-registry --base-path /var/lib/anka-registry stats",
			Flags:       []cli.Flag{jsonFlag}, Action: stats,
		},
		{
			Name: "export", Usage: "write a repository as an OCI image layout", ArgsUsage: "REPOSITORY DIR [TAG ...]",
			Description: "anka-registry --base-path /var/lib/anka-registry export team/sonoma /backup/sonoma",
			Flags:       []cli.Flag{jsonFlag}, Action: export,
		},
		{
			Name: "import", Usage: "store an OCI image layout as a repository", ArgsUsage: "DIR REPOSITORY",
			Description: "anka-registry --base-path /var/lib/anka-registry import /backup/sonoma team/sonoma",
			Flags:       []cli.Flag{jsonFlag}, Action: importLayout,
		},
	}
}

// openStore opens the store of the global options. A directory that is none is
// refused rather than made: the option was left out or mistyped.
func openStore(cc *cli.Context) (*fs.Store, error) {
	c, err := load(cc)
	if err != nil {
		return nil, err
	}
	if !fs.Exists(c.server.Root) {
		return nil, usageErrorf("%s holds no registry; --base-path (ANKA_BASE_PATH) names the directory", c.server.Root)
	}
	return fs.Open(c.server.Root, fs.Limits{})
}

func usageErrorf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errUsage, fmt.Errorf(format, args...))
}

func printJSON(c *cli.Context, v any) error {
	enc := json.NewEncoder(c.App.Writer)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func verify(c *cli.Context) error {
	if c.Args().Present() {
		return usageErrorf("verify takes no argument, got %q", c.Args().First())
	}
	opt := fs.VerifyOptions{Quarantine: c.Bool("repair")}
	peers := c.StringSlice("from")
	if len(peers) > 0 && !c.Bool("repair") {
		return usageErrorf("--from needs --repair")
	}
	cfg, err := load(c)
	if err != nil {
		return err
	}
	trust, err := cfg.trust()
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	store, err := openStore(c)
	if err != nil {
		return err
	}
	if len(peers) > 0 {
		hc := &http.Client{CheckRedirect: wire.NoRedirect, Transport: trust.Transport(http.DefaultTransport.(*http.Transport).Clone())}
		opt.Fetch = func(ctx context.Context, repo string, d digest.Digest, manifest bool) error {
			return fetchFrom(ctx, hc, store, peers, repo, d, manifest)
		}
	}
	total, err := store.CountUsage()
	if err != nil {
		return err
	}
	bar := progress.New(c.App.ErrWriter, "verify", c.Bool("machine-readable"))
	opt.Progress = func(done int64) { bar.Report(done, total) }
	v, err := store.Verify(c.Context, opt)
	bar.End()
	if err != nil {
		return err
	}
	left := 0
	for _, d := range v.Damage {
		if d.Outcome != "repaired" {
			left++
		}
	}
	if c.Bool("machine-readable") {
		err = printJSON(c, v)
	} else {
		for _, d := range v.Damage {
			what := d.Repository
			if d.Tag != "" {
				what += ":" + d.Tag
			}
			fmt.Fprintf(c.App.Writer, "%-11s  %s %s: %s\n", d.Outcome, what, d.Digest, d.Problem)
		}
		fmt.Fprintf(c.App.Writer, "%d blobs (%s), %d tags: %d damaged, %d repaired\n", v.Blobs, progress.Size(v.Bytes), v.Tags, len(v.Damage), len(v.Damage)-left)
	}
	if err == nil && left > 0 {
		err = fmt.Errorf("%d damaged; verify --repair --from URL fetches from another registry, and what is quarantined comes back with the next push", left)
	}
	return err
}

func collect(c *cli.Context) error {
	store, err := openStore(c)
	if err != nil {
		return err
	}
	got, err := store.Collect(c.Context, content.CollectOptions{
		Grace: c.Duration("grace"), KeepUntagged: c.Duration("untagged"), DryRun: c.Bool("dry-run"),
	})
	if err != nil {
		return err
	}
	if c.Bool("machine-readable") {
		return printJSON(c, got)
	}
	word := "removed"
	if c.Bool("dry-run") {
		word = "would remove"
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s %d blobs (%s), %d links, %d manifests\n", word, got.Blobs, progress.Size(got.Bytes), got.Links, got.Manifests)
	return err
}

func stats(c *cli.Context) error {
	store, err := openStore(c)
	if err != nil {
		return err
	}
	st, err := store.Stats(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("machine-readable") {
		return printJSON(c, st)
	}
	size := progress.Size[int64]
	_, err = fmt.Fprintf(c.App.Writer, `repositories      %d
tags              %d
manifests         %d
blobs             %d
stored            %s
  unreferenced    %s
saved by sharing  %s
uploads           %d (%s)
quarantined       %d
`, st.Repositories, st.Tags, st.Manifests, st.Blobs, size(st.Bytes), size(st.Unreferenced), size(st.Shared), st.Uploads, size(st.UploadBytes), st.Quarantined)
	return err
}

func export(c *cli.Context) error {
	if c.NArg() < 2 {
		return usageErrorf("export needs REPOSITORY and DIR")
	}
	store, err := openStore(c)
	if err != nil {
		return err
	}
	args := c.Args().Slice()
	return moved(c, "exported "+args[0], "export "+args[0], func(report func(done, total int64)) ([]string, error) {
		return content.Export(c.Context, store, args[0], args[1], content.LayoutOptions{Tags: args[2:], Progress: report})
	})
}

func importLayout(c *cli.Context) error {
	if c.NArg() != 2 {
		return usageErrorf("import needs DIR and REPOSITORY")
	}
	cfg, err := load(c)
	if err != nil {
		return err
	}
	store, err := fs.Open(cfg.server.Root, fs.Limits{}) // the first import makes the store
	if err != nil {
		return err
	}
	dir, repo := c.Args().Get(0), c.Args().Get(1)
	return moved(c, "imported "+repo, "import "+repo, func(report func(done, total int64)) ([]string, error) {
		return content.Import(c.Context, store, dir, repo, content.LayoutOptions{Progress: report})
	})
}

// moved does an export or import under a bar and says which tags it was.
func moved(c *cli.Context, said, what string, do func(report func(done, total int64)) ([]string, error)) error {
	bar := progress.New(c.App.ErrWriter, what, c.Bool("machine-readable"))
	tags, err := do(bar.Report)
	bar.End()
	if err != nil {
		return err
	}
	if c.Bool("machine-readable") {
		return printJSON(c, map[string][]string{"tags": append([]string{}, tags...)})
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: %s\n", said, strings.Join(tags, ", "))
	return err
}

// fetchFrom brings content from the first peer that has it.
func fetchFrom(ctx context.Context, hc *http.Client, store content.Store, peers []string, repo string, d digest.Digest, manifest bool) error {
	var errs []error
	for _, peer := range peers {
		fetch := fetchBlob
		if manifest {
			fetch = fetchManifest
		}
		err := fetch(ctx, hc, store, strings.TrimRight(peer, "/"), repo, d)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", peer, err))
	}
	return errors.Join(errs...)
}

func fetchManifest(ctx context.Context, hc *http.Client, store content.Store, peer, repo string, d digest.Digest) error {
	resp, err := get(ctx, hc, peer+oci.ManifestPath(repo, d.String()), 0)
	if err != nil {
		return err
	}
	raw, err := wire.ReadAnswer(resp, content.MaxManifest)
	if err != nil {
		return err
	}
	return store.PutManifest(repo, content.Manifest{Digest: d, MediaType: resp.Header.Get("Content-Type"), Raw: raw})
}

// fetchTries is how often a broken transfer is gone on with.
const fetchTries = 5

var fetchPace = backoff.Pace{Min: 200 * time.Millisecond, Max: time.Second}

func fetchBlob(ctx context.Context, hc *http.Client, store content.Store, peer, repo string, d digest.Digest) error {
	u, err := store.NewUpload(repo, d.Algorithm())
	if err != nil {
		return err
	}
	defer u.Cancel() //nolint:errcheck // after Commit there is nothing left to remove
	for try := 1; ; try++ {
		if err = fetchRest(ctx, hc, u, peer+oci.BlobPath(repo, d)); err == nil {
			return u.Commit(d)
		}
		if try == fetchTries || errors.Is(err, errNotServed) {
			return err
		}
		if !fetchPace.Wait(ctx, try-1) {
			return ctx.Err()
		}
	}
}

func fetchRest(ctx context.Context, hc *http.Client, u content.Upload, url string) error {
	resp, err := get(ctx, hc, url, u.Offset())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = u.Append(resp.Body)
	return err
}

// errNotServed: the peer answered, and does not have it.
var errNotServed = errors.New("not served there")

func get(ctx context.Context, hc *http.Client, url string, offset int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(registryapi.HeaderNoPull, "repair")
	want := http.StatusOK
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		want = http.StatusPartialContent
	}
	resp, err := hc.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: %s", errNotServed, resp.Status)
	}
	return resp, nil
}
