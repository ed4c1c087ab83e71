package fs

import (
	"testing"

	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/content/contenttest"
)

func TestStore(t *testing.T) {
	contenttest.Run(t, func(t *testing.T) content.Store { return openTest(t, t.TempDir()) })
}
