package cli

import (
	"os"
	"testing"
)

func TestDropEmpty(t *testing.T) {
	t.Setenv("TBHIST_TREE", "")
	t.Setenv("TBHIST_NS", "shop")
	t.Setenv("OTHER", "")
	dropEmpty(os.Environ())
	for name, want := range map[string]bool{"TBHIST_TREE": false, "TBHIST_NS": true, "OTHER": true} {
		if _, ok := os.LookupEnv(name); ok != want {
			t.Errorf("%s is set: %v, want %v", name, ok, want)
		}
	}
}
