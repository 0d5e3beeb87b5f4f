package cli

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tbhist/internal/wire"
	"tbhist/store"
)

// Whoever meets damage is told what to do, and where it is.
func TestFileErrorOfDamage(t *testing.T) {
	for _, err := range []error{store.ErrDamaged, &store.CorruptionError{Where: "heads", Seq: 7, Err: errors.New("checksum does not match")}} {
		said := fileError("a.db", err).Error()
		if !strings.Contains(said, "tbhist db check a.db") || !strings.Contains(said, "backup") || !strings.HasSuffix(said, "("+err.Error()+")") {
			t.Errorf("of %v it is said: %s", err, said)
		}
	}
}

// An import says each message once, damage too, but not that a broker goes on
// without a disk.
func TestImportSaysOnce(t *testing.T) {
	var out strings.Builder
	log := slog.New(&importHandler{sayHandler: sayHandler{p: &program{stderr: &out}}, said: map[string]bool{}})
	for range 3 {
		log.Info("opened")
		log.Warn("tried again", "err", errors.New("no space"))
		log.Error("set aside", "err", errors.New("damaged"))
		log.Error("the disk refuses commits: updates are published without being kept", "err", errors.New("no space"))
	}
	if out.String() != "tbhist: tried again: no space\ntbhist: set aside: damaged\n" {
		t.Errorf("it says:\n%s", &out)
	}
}

// What is said of a file's size holds for one that has more than it may, too:
// it had another limit before.
func TestStatsOfTheFile(t *testing.T) {
	for want, s := range map[string]wire.Stats{
		"tbhist: the file has 1MiB of 2GiB at most\n":                  {FileBytes: 1 << 20, MaxBytes: 2 << 30},
		"tbhist: the file has 3GiB, more than --max-db (2GiB): space ": {FileBytes: 3 << 30, MaxBytes: 2 << 30},
		"tbhist: the file has 3GiB\n":                                  {FileBytes: 3 << 30},
	} {
		var out, said strings.Builder
		if err := (&program{stdout: &out, stderr: &said}).printStats(&s); err != nil || !strings.HasPrefix(said.String(), want) {
			t.Errorf("%v, it says %swhere that is %s", err, &said, want)
		}
	}
}

// Of two that write a file of one name at once, the one that is done last
// stands, and each is whole. Of one that fails nothing is left.
func TestWholeFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "all.json")
	var files []*wholeFile
	for range 3 {
		w, err := newWholeFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, w)
	}
	for i, w := range files {
		if _, err := w.WriteString(strings.Repeat(itoa(i), 100_000)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there before it is whole: %v", err)
	}
	for i, w := range files[:2] {
		if err := w.finish(nil); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != strings.Repeat(itoa(i), 100_000) {
			t.Errorf("number %d is not whole: %d bytes, %v", i, len(b), err)
		}
	}
	failed := errors.New("failed")
	if err := files[2].finish(failed); !errors.Is(err, failed) {
		t.Errorf("it ends with %v", err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("there is %v, %v", all, err)
	}
}
