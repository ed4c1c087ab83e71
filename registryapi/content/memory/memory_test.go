package memory

import (
	"testing"

	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/content/contenttest"
)

func TestStore(t *testing.T) {
	contenttest.Run(t, func(*testing.T) content.Store { return New() })
}
