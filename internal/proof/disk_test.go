//go:build proof

package proof

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What fails for a moment is tried again: nobody notices, whether writing fails
// or one of the two syncs of a commit.
func TestDiskFailsForAMoment(t *testing.T) {
	r := startDiskRig(t)
	var all hit
	for _, way := range []struct {
		name   string
		inject string
		enough func(hit) bool
	}{
		// strace counts the calls of each thread by itself, and a commit may go
		// from one to another; so each is tried until what is meant has failed.
		{"write", "pwrite64:error=EIO:when=3+40", func(h hit) bool { return h.writes > 2 }},
		{"disk full in a write", "pwrite64:error=ENOSPC:when=5+40", func(h hit) bool { return h.writes > 2 }},
		{"first sync", "fdatasync:error=EIO:when=1+7", func(h hit) bool { return h.first > 2 }},
		{"second sync", "fdatasync:error=EIO:when=2+4", func(h hit) bool { return h.second > 2 }},
	} {
		t.Run(way.name, func(t *testing.T) {
			was := r.b.metric("tbhist_commit_errors_total")
			f := inject(t, r.b, "pwrite64,fdatasync", way.inject)
			var h hit
			eventually(t, "what is meant has failed", func() bool {
				if n := r.pass(20, 300); n != 0 {
					t.Fatalf("%d updates were not kept", n)
				}
				h = f.hits()
				return way.enough(h)
			})
			f.stop()
			if n := r.b.metric("tbhist_commit_errors_total") - was; n < 1 {
				t.Errorf("tbhist_commit_errors_total counts %v more", n)
			}
			if n := r.b.metric("tbhist_degraded"); n != 0 {
				t.Errorf("tbhist_degraded is %v", n)
			}
			r.check()
			all = hit{all.writes + h.writes, all.first + h.first, all.second + h.second}
		})
	}
	r.crash()
	measured(t, "%d writes, %d first and %d second syncs of commits failed for a moment: %d updates, each kept once", all.writes, all.first, all.second, len(r.c.kept))
}

// What fails for longer is published as not kept, said by everybody, and kept
// again when the disk takes it: nothing that was seen with a seq is lost,
// nothing that was seen without turns up.
func TestDiskRefuses(t *testing.T) {
	r := startDiskRig(t)
	ways := 0
	for i, way := range []struct{ name, inject, reason string }{
		{"sync", "fdatasync,fsync:error=EIO", "input/output error"},
		{"full", "pwrite64,fallocate,ftruncate:error=ENOSPC", "no space left on device"},
		{"write", "pwrite64:error=EIO", "input/output error"},
		{"read-only", "pwrite64,fallocate,ftruncate:error=EROFS", "read-only file system"},
		{"second sync and all that mends", "fdatasync:error=EIO:when=2..200", "input/output error"},
	} {
		if i > 1 && os.Getenv("TBHIST_DISK_WAYS") == "" {
			break // a matter of time
		}
		ways++
		t.Run(way.name, func(t *testing.T) {
			r.pass(200, 200)
			f := inject(t, r.b, "pwrite64,fdatasync,fsync,fallocate,ftruncate", way.inject)
			unkept := 0
			eventually(t, "the grace is over", func() bool {
				unkept += r.pass(10, 100)
				return unkept > 20
			})
			r.wantDegraded(way.reason)
			r.check()
			f.stop()
			r.wantRecovered()
			r.check()
		})
	}
	if got := r.b.metric("tbhist_updates_unkept_total"); got != float64(r.unkept) {
		t.Errorf("tbhist_updates_unkept_total is %v, and %d were seen", got, r.unkept)
	}
	r.crash()
	measured(t, "%d ways in which a disk refuses: %d updates published as not kept, none of them in history; %d kept, all there after SIGKILL", ways, r.unkept, len(r.c.kept))
}

// The broker is killed while its disk refuses.
func TestKilledWhileDiskRefuses(t *testing.T) {
	r := startDiskRig(t)
	for _, how := range []string{"fdatasync:error=EIO", "pwrite64:error=EIO:when=2+3", "fdatasync:error=EIO:when=2..100"} {
		r.pass(300, 200)
		f := inject(t, r.b, "pwrite64,fdatasync", how)
		for range 5 {
			r.pass(10, 100)
		}
		r.b.kill()
		f.stop()
		r.b.start()
		r.crash()
	}
	measured(t, "killed 6 times around a disk that refuses: %d updates kept, %d not, and history says the same", len(r.c.kept), r.unkept)
}

// A slow disk holds the input back and loses nothing.
func TestSlowDisk(t *testing.T) {
	r := startDiskRig(t)
	r.pass(200, 200)
	f := inject(t, r.b, "fdatasync", "fdatasync:delay_enter=1000000")
	for range 2 {
		if n := r.pass(500, 200); n != 0 {
			t.Errorf("%d updates were not kept", n)
		}
		if n := r.b.metric("tbhist_degraded"); n != 0 {
			t.Errorf("tbhist_degraded is %v", n)
		}
	}
	f.stop()
	if n := r.b.metric("tbhist_commit_errors_total"); n != 0 {
		t.Errorf("%v commits failed", n)
	}
	r.check()
	r.crash()
	measured(t, "1 s for each sync: %d updates, all kept", len(r.c.kept))
}

// A file that may not grow, as on a full disk, is one that refuses; it comes
// back by itself.
func TestFileSizeLimit(t *testing.T) {
	r := startDiskRig(t)
	r.pass(500, 500)
	info, err := os.Stat(r.b.db)
	if err != nil {
		t.Fatal(err)
	}
	var was unix.Rlimit
	limit := unix.Rlimit{Cur: uint64(info.Size()), Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(r.b.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, &was); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file is full", func() bool { return r.pass(500, 2000) > 0 })
	r.wantDegraded("file too large")
	if now, err := os.Stat(r.b.db); err != nil || now.Size() > info.Size() {
		t.Errorf("the file has %d bytes, %v; want %d at most", now.Size(), err, info.Size())
	}
	r.check()
	if err := unix.Prlimit(r.b.cmd.Process.Pid, unix.RLIMIT_FSIZE, &was, nil); err != nil {
		t.Fatal(err)
	}
	r.wantRecovered()
	r.check()
	r.crash()
	measured(t, "a file that may not grow: %d updates kept, %d not", len(r.c.kept), r.unkept)
}

// smallDisk mounts a file system of so many bytes in memory and makes it the
// place of this test's files.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tbhist-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("a file system of its own may not be mounted here (TestFileSizeLimit fills one up all the same): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("TMPDIR", dir)
	return dir
}

// A disk that is really full: what was kept stays, rings go on to be held, and
// the broker comes back when there is room.
func TestFullDisk(t *testing.T) {
	strace(t)
	const size = 8 * mib
	dir := smallDisk(t, size)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, size/3), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startDiskRig(t)
	eventually(t, "the disk is full", func() bool { return r.pass(2000, 4000) > 0 })
	r.wantDegraded("no space left on device")
	r.check()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	r.wantRecovered()
	r.check()
	eventually(t, "the disk is full again", func() bool { return r.pass(2000, 4000) > 0 })
	r.wantDegraded("no space left on device")
	// A start on the full disk reads what there is; with a limit there is room
	// again.
	r.b.kill()
	r.b.start()
	r.check()
	kept := len(r.c.kept)
	r.b.stop()
	r.b.args = append(r.b.args, "--ring", "20")
	r.b.start()
	r.reconnect()
	for range 5 {
		if n := r.pass(2000, 4000); n != 0 {
			t.Errorf("%d updates were not kept with a limit of 20 on a full disk", n)
		}
	}
	measured(t, "a disk of %d MiB filled twice: %d updates kept, %d not; with a limit %d more on the full disk", size/mib, kept, r.unkept, 5*2000)
}

// What the disk does not even let the broker start with is one sentence.
func TestStartOnBadDisk(t *testing.T) {
	dir := smallDisk(t, 16*mib)
	db := filepath.Join(dir, "tbhist.db")
	serve := []string{program, "serve", "--listen", fmt.Sprintf("127.0.0.1:%d", freePorts(t)), "--db"}
	refused := func(want string, line ...string) {
		t.Helper()
		cmd := exec.Command(line[0], line[1:]...)
		cmd.Env = cleanEnv()
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%v: %v\n%s", line, err, out)
		}
		said := strings.TrimSpace(string(out))
		if lines := strings.Split(said, "\n"); !strings.HasPrefix(lines[len(lines)-1], "tbhist: ") || !strings.Contains(said, want) ||
			strings.Contains(said, "goroutine ") {
			t.Errorf("%v says\n%s\nwant one sentence with %q", line, out, want)
		}
	}
	// There is no memory for the mapping.
	refused("cannot allocate memory", append([]string{strace(t), "-f", "-o", filepath.Join(dir, "trace"), "-P", db, "-e", "trace=mmap", "-e", "inject=mmap:error=ENOMEM"}, append(serve, db)...)...)
	refused("cannot allocate memory", "sh", "-c", `ulimit -v 4000000; exec "$0" "$@"`, serve[0], serve[1], serve[2], serve[3], "--max-db", "64GiB", "--db", db)
	// No sync, no room.
	refused("input/output error", append([]string{strace(t), "-f", "-o", filepath.Join(dir, "trace"), "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"}, append(serve, filepath.Join(dir, "new.db"))...)...)
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 16*mib-3*4096), 0o600); err == nil {
		t.Error("the ballast left more than room for itself")
	}
	refused("is full", append(serve, filepath.Join(dir, "another.db"))...)
	// Read-only.
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Mount("", dir, "", unix.MS_REMOUNT, "") })
	refused("cannot be written", append(serve, db)...)
	refused("cannot be written", append(serve, filepath.Join(dir, "never.db"))...)
	measured(t, "6 starts on a disk or with memory that will not do: one sentence each")
}
