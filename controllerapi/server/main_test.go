package server

import (
	"flag"
	"os"
	"testing"
)

// TestMain lets more tests run at a time than there are cores: they wait for
// leases most of the time.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "4") // it is a flag of every test
	}
	os.Exit(m.Run())
}
