package cliargs

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestOrder(t *testing.T) {
	t.Parallel()
	own := []cli.Flag{&cli.StringFlag{Name: "base-path"}, &cli.BoolFlag{Name: "verbose"}, &cli.BoolFlag{Name: "json"}}
	commands := []*cli.Command{
		{Name: "stats", Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Aliases: []string{"j"}}}},
		{Name: "join", Flags: []cli.Flag{&cli.StringFlag{Name: "name", Aliases: []string{"n"}}}},
		{Name: "template", Subcommands: []*cli.Command{{Name: "tag", Flags: []cli.Flag{&cli.BoolFlag{Name: "force"}, &cli.StringFlag{Name: "url"}}}}},
	}
	for _, tc := range []struct{ in, want string }{
		{"p", "p"},
		{"p --base-path d", "p --base-path d"},
		{"p stats --base-path d", "p --base-path d stats"},
		{"p stats --base-path=d -j", "p --base-path=d stats -j"},
		{"p stats --json", "p stats --json"},
		{"p --verbose stats x --verbose", "p --verbose --verbose stats x"},
		{"p --base-path stats stats x -j", "p --base-path stats stats -j x"},
		{"p join u --name x v", "p join --name x u v"},
		{"p join u -n=x v", "p join -n=x u v"},
		{"p join u -- --name", "p join -- u --name"},
		{"p join u --unknown v", "p join --unknown u v"},
		{"p join - u --name x", "p join --name x - u"},
		{"p template tag a b --url u --force", "p template tag --url u --force a b"},
		{"p unknown --base-path d", "p unknown --base-path d"},
		{"p join --name", "p join --name"},
	} {
		if got := strings.Join(Order(strings.Fields(tc.in), own, commands), " "); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.in, got, tc.want)
		}
	}
}
