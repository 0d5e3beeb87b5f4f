package disk

import (
	"path/filepath"
	"testing"
)

func TestFree(t *testing.T) {
	dir := t.TempDir()
	if n, ok := Free(dir); !ok || n <= 0 {
		t.Errorf("Free gives %d, %v", n, ok)
	}
	if n, ok := Free(filepath.Join(dir, "nothing")); ok {
		t.Errorf("Free of a folder that is not there gives %d", n)
	}
}
