package doctor

import (
	"context"
	"errors"

	"github.com/ankacluster/ankacluster/internal/ownership"
)

// checkPrograms tells of programs that root runs and somebody else may replace.
func checkPrograms(_ context.Context, cfg Config) []Finding {
	var found []Finding
	for _, path := range cfg.Programs {
		if err := ownership.OnlyRoot(path); errors.Is(err, ownership.ErrShared) {
			found = append(found, Finding{Check: "program", Target: path, Level: Fail, Summary: "root runs it, and " + err.Error(),
				Advice: "let only root write it and the folders above; ankacluster join tells how"})
		}
	}
	return found
}
