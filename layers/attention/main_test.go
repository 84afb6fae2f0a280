package attention

import (
	"flag"
	"os"
	"testing"
)

// TestMain fixes what property tests draw; -rapid.seed=0 draws anew.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.seed", "1"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
