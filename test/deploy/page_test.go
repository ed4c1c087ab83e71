package deploy

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/strvals"
)

var set = regexp.MustCompile(`--set (\S+)`)

// TestCommandsOfTheChartsPage renders the chart with what its page sets, command by
// command, as helm reads it.
func TestCommandsOfTheChartsPage(t *testing.T) {
	page, err := os.ReadFile(chartDir + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	c, commands := loadChart(t), 0
	for line := range strings.Lines(strings.ReplaceAll(string(page), "\\\n", "")) {
		command, ok := strings.CutPrefix(line, "    ")
		if !ok || strings.HasPrefix(command, "helm test") { // pods of the chart's own, which are rendered too
			continue
		}
		commands++
		values := make(map[string]any)
		for _, m := range set.FindAllStringSubmatch(command, -1) {
			if err := strvals.ParseInto(m[1], values); err != nil {
				t.Errorf("%s: %v", command, err)
			}
		}
		rendered, err := render(c, values)
		if err == nil {
			_, err = objects(rendered)
		}
		if err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
	if commands < 3 {
		t.Errorf("%d commands were found", commands)
	}
}
