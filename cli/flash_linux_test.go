package cli

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFlashDevice(t *testing.T) {
	sys := t.TempDir()
	add := func(number, dir string, slaves ...string) {
		t.Helper()
		dir = filepath.Join(sys, dir)
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = os.MkdirAll(filepath.Join(sys, "dev", "block"), 0o755)
		}
		if err == nil {
			err = os.Symlink(dir, filepath.Join(sys, "dev", "block", number))
		}
		for _, slave := range slaves {
			if err == nil {
				err = os.MkdirAll(filepath.Join(dir, "slaves", slave), 0o755)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "slaves", slave, "dev"), []byte(slave+"\n"), 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add("179:2", "devices/platform/mmc0/block/mmcblk0/mmcblk0p2")
	add("8:1", "devices/pci/block/sda/sda1")
	add("254:0", "devices/virtual/block/dm-0", "8:1", "179:2") // a volume on both
	add("254:1", "devices/virtual/block/dm-1", "8:1")
	add("254:2", "devices/virtual/block/dm-2", "254:2") // on itself: no end
	for number, want := range map[string]string{
		"179:2": "mmcblk0", "8:1": "", "254:0": "mmcblk0", "254:1": "", "254:2": "", "0:42": "",
	} {
		if got := flashDevice(sys, number, 8); got != want {
			t.Errorf("%s is %q, want %q", number, got, want)
		}
	}
	if got := flashOf(sys, filepath.Join(sys, "no-directory", "file")); got != "" {
		t.Errorf("no directory is on %q", got)
	}
	_ = flashOf("/sys", filepath.Join(sys, "file")) // whatever it is on
}
