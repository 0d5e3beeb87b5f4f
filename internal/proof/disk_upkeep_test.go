//go:build proof

package proof

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tbhist/store/bolt"
)

// A command of upkeep whose disk fails says so in one sentence and ends with 1;
// the file that was there is as it was, and nothing is left beside it.
func TestDiskFailsInUpkeep(t *testing.T) {
	before := t.TempDir()
	makeHistory(t, filepath.Join(before, cutFile), cutOptions, 0, 3000)
	makeHistory(t, filepath.Join(before, "plain.db"), bolt.Options{}, 0, 200)
	runTbhist(t, before, "db", "export", "lines.json", "--quiet", "--from-db", "plain.db")
	b := startBroker(t)
	runTbhist(t, before, "db", "backup", "backup.db", "--quiet", "--broker", b.url(feedPort))
	b.command("send", "all.a1", "1")

	const eio = "input/output error"
	compact, backup := []string{"db", "compact", cutFile}, []string{"db", "backup", "backup.db", "--broker", b.url(feedPort)}
	export := []string{"db", "export", "lines.json", "--from-db", cutFile}
	imports, epoch := []string{"db", "import", "lines.json", "--db", "plain.db"}, []string{"db", "new-epoch", "plain.db"}
	ways := 0
	for _, way := range []struct {
		args   []string
		inject string
		only   string // calls that are about this file
		want   string
		// changed tells that the file is not as it was: what failed was the
		// outliving of what was done.
		changed bool
	}{
		{args: compact, inject: "pwrite64:error=EIO", want: eio},
		{args: compact, inject: "pwrite64:error=ENOSPC:when=3+", want: "is full"},
		{args: compact, inject: "fdatasync:error=EIO", want: cutFile + ".compact: " + eio},
		{args: compact, inject: "fdatasync,fsync:error=EIO", want: eio},
		{args: compact, inject: "ftruncate:error=EIO", want: eio},
		{args: compact, inject: "mmap:error=ENOMEM:when=2+", only: cutFile + ".compact", want: "cannot allocate memory"},
		{args: compact, inject: "fchmod,fchmodat:error=EPERM", want: "may not"},
		{args: compact, inject: "rename,renameat,renameat2:error=EIO", want: eio},
		{args: compact, inject: "fsync:error=EIO", only: ".", want: "a power cut may still bring back what it had: sync .: " + eio, changed: true},
		{args: backup, inject: "pwrite64:error=EIO", want: eio},
		{args: backup, inject: "fdatasync:error=EIO", want: eio},
		{args: backup, inject: "rename,renameat,renameat2:error=EIO", want: eio},
		{args: backup, inject: "fsync:error=EIO", only: ".", want: "a power cut may still bring back what it had: sync .: " + eio, changed: true},
		{args: export, inject: "fsync:error=EIO", want: eio},
		{args: export, inject: "rename,renameat,renameat2:error=EIO", want: eio},
		{args: imports, inject: "pwrite64:error=EIO", want: "the disk of plain.db refuses it"},
		{args: imports, inject: "fdatasync:error=EIO", want: "the disk of plain.db refuses it"},
		{args: epoch, inject: "pwrite64:error=EIO", want: eio},
		{args: epoch, inject: "fdatasync:error=EIO", want: eio},
	} {
		t.Run(way.args[1]+" "+strings.ReplaceAll(way.inject, ":", " ")+way.only, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "files")
			if err := os.CopyFS(dir, os.DirFS(before)); err != nil {
				t.Fatal(err)
			}
			calls, _, _ := strings.Cut(way.inject, ":")
			line := []string{"-f", "-o", filepath.Join(t.TempDir(), "trace"), "-e", "trace=" + calls, "-e", "inject=" + way.inject}
			if way.only != "" {
				line = append(line, "-P", filepath.Join(dir, way.only))
			}
			cmd := exec.Command(strace(t), append(append(line, program), way.args...)...)
			cmd.Dir, cmd.Env = dir, cleanEnv()
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("it ends with %v", err)
			}
			said := strings.Split(strings.TrimSpace(string(out)), "\n")
			if last := said[len(said)-1]; !strings.HasPrefix(last, "tbhist: ") || !strings.Contains(last, way.want) || len(said) > 3 ||
				strings.Count(string(out), way.want) > 2 || strings.Contains(string(out), "goroutine ") {
				t.Errorf("it says\n%s\nwant one sentence with %q", out, way.want)
			}
			wantAsBefore(t, before, dir, way.args, way.changed)
		})
		ways++
	}
	t.Cleanup(func() {
		measured(t, "%d ways in which a disk fails in upkeep: one sentence each, the old file whole", ways)
	})
}

// wantAsBefore demands that a folder has the files that it had, as they were;
// those that are written in place may have other bytes, and the same updates.
func wantAsBefore(t *testing.T, before, dir string, args []string, changed bool) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		was, err := os.ReadFile(filepath.Join(before, file.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left", file.Name())
			continue
		}
		is, readErr := os.ReadFile(filepath.Join(dir, file.Name()))
		if err = errors.Join(err, readErr); err != nil {
			t.Fatal(err)
		}
		inPlace := file.Name() == "plain.db" && (args[1] == "import" || args[1] == "new-epoch")
		if !changed && !inPlace && !bytes.Equal(is, was) {
			t.Errorf("%s is not what it was", file.Name())
		}
		if !strings.HasSuffix(file.Name(), ".db") {
			continue
		}
		if err := checkClean(t.Context(), filepath.Join(dir, file.Name())); err != nil {
			t.Error(err)
		}
		if !inPlace {
			continue
		}
		want, err := readContents(t.Context(), filepath.Join(before, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readContents(t.Context(), filepath.Join(dir, file.Name())); err != nil || got != want {
			t.Errorf("%s has\n%+v, %v\nwant\n%+v", file.Name(), got, err, want)
		}
	}
}

// Where the history cannot be read while a backup is taken, that is said,
// nothing takes the place of the older backup, and the broker goes on. strace makes no mapping
// unreadable; the end of a file that is cut off is one.
func TestDiskUnreadableInBackup(t *testing.T) {
	b := startBroker(t)
	b.stop()
	makeHistory(t, b.db, bolt.Options{}, 0, 6000)
	b.start()
	dir := t.TempDir()
	path := filepath.Join(dir, "backup.db")
	b.command("db", "backup", path, "--quiet")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(b.db, 256<<10); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "db", "backup", path, "--broker", b.url(feedPort))
	cmd.Env = cleanEnv()
	out, _ := cmd.CombinedOutput() // its state tells
	said := strings.TrimSpace(string(out))
	if code := cmd.ProcessState.ExitCode(); code != 1 || strings.Contains(said, "\n") || !strings.HasPrefix(said, "tbhist: no backup was made: ") || !strings.Contains(said, "could not be read") {
		t.Errorf("it ends with %d, and says\n%s", code, said)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("left are %v, %v", files, err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the older backup is not what it was: %v", err)
	}
	rest := filepath.Join(dir, "rest.db")
	cmd = exec.Command(program, "db", "backup", rest, "--quiet", "--broker", b.url(feedPort))
	cmd.Env = cleanEnv()
	out, _ = cmd.CombinedOutput() // its state tells
	if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.HasPrefix(string(out), "tbhist: "+rest+" lacks ") {
		t.Errorf("the backup of what is left ends with %d, and says\n%s", code, out)
	}
	runTbhist(t, dir, "db", "export", "rest.json", "--quiet", "--from-db", "rest.db")
	b.command("things")
	b.command("send", "all.a1", "1")
	measured(t, "a history that cannot be read while a backup is taken: %s", strings.TrimPrefix(said, "tbhist: "))
}
