//go:build proof

package proof

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tbhist/internal/zmtp"
)

// On a disk that has more room the file takes as much as --max-db allows and not
// a byte more: none is even tried, and nothing else is written beside it.
func TestDiskLargerThanMaxDB(t *testing.T) {
	const most = 64 * mib
	turns := 1.0
	if os.Getenv("TBHIST_DISK_WAYS") != "" {
		turns = 15
	}
	b := startBroker(t, "--max-db", "64MiB")
	limit := unix.Rlimit{Cur: most, Max: most} // a byte more fails, and is said
	if err := unix.Prlimit(b.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	defer func() {
		cancel()
		<-ended
	}()
	go func() {
		defer close(ended)
		pour(ctx, b)
	}()
	evicted := func() float64 { return b.metric(`tbhist_updates_evicted_total{cause="max_db"}`) }
	largest := int64(0)
	eventually(t, "so much is evicted", func() bool {
		info, err := os.Stat(b.db)
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, info.Size())
		return evicted()*poured >= turns*most
	})
	cancel()
	<-ended
	if largest > most {
		t.Errorf("the file had %d bytes of %d", largest, int64(most))
	}
	if n := b.metric("tbhist_updates_unkept_total"); n != 0 {
		t.Errorf("%v updates were not kept", n)
	}
	if log := b.log.String(); strings.Contains(log, "file too large") {
		t.Errorf("more was tried:\n%s", log)
	}
	gone := evicted()
	b.stop()
	b.under = []string{"/bin/bash", "-c", fmt.Sprintf(`ulimit -f %d; exec "$0" "$@"`, most>>10)}
	b.start()
	b.stop()
	files, err := os.ReadDir(filepath.Dir(b.db))
	if err != nil || len(files) != 1 {
		t.Errorf("beside the history are %v, %v", files, err)
	}
	if err := checkClean(t.Context(), b.db); err != nil {
		t.Error(err)
	}
	measured(t, "--max-db of %d MiB on a larger disk: %.0f MiB evicted, the file had %.1f MiB at most", most/mib, gone*poured/mib, float64(largest)/mib)
}

// poured is how many bytes an update of pour has, about; they do not become
// fewer by compressing.
const poured = 8192

// pour sends updates as fast as the broker takes them, until ctx ends.
func pour(ctx context.Context, b *broker) {
	rnd := rand.NewChaCha8([32]byte{})
	noise := make([]byte, poured*3/4)
	n := 0
	d := zmtp.Dialer{DialOptions: zmtp.DialOptions{Role: zmtp.Pub}, MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond}
	_ = d.Run(ctx, func(int) (string, error) { return b.addr(inputPort), nil }, func(ctx context.Context, c *zmtp.Conn) error {
		for ctx.Err() == nil {
			_, _ = rnd.Read(noise) // it never fails
			body := fmt.Appendf(nil, `{"type": "thing_update", "ns": "load.t%d", "data": "%s", "ts": %d.5, "documentation_url": null}`,
				n%50, base64.StdEncoding.EncodeToString(noise), n)
			n++
			if err := c.Write(zmtp.AppendFrame(nil, body, false)); err != nil {
				return err
			}
			if err := c.Flush(); err != nil {
				return err
			}
		}
		return nil
	}) // it ends with ctx
}

// A history is mapped up to --max-db from the start, so that its growth takes no
// mapping; where it must be opened anew and there is no memory for that, the
// broker is one whose disk refuses, and comes back by itself.
func TestDiskMappingRefused(t *testing.T) {
	r := startDiskRig(t)
	pid := r.b.cmd.Process.Pid
	limit := func(above int64) {
		t.Helper()
		l := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		if above > 0 {
			size, err := procFigure(pid, "VmSize")
			if err != nil {
				t.Fatal(err)
			}
			l.Cur = uint64(size + above)
		}
		if err := unix.Prlimit(pid, unix.RLIMIT_AS, &l, nil); err != nil {
			t.Fatal(err)
		}
	}
	// Go's runtime ends a program that gets no memory: it has enough for itself.
	const forGo = 384 * mib

	r.pass(200, 200)
	mapped := mappedBytes(t, pid, r.b.db)
	if mapped < 2<<30 {
		t.Errorf("%d bytes of the history are mapped", mapped)
	}
	limit(forGo)
	if n := r.pass(1000, 4000); n != 0 {
		t.Errorf("%d updates were not kept while the file grew", n)
	}
	if now := mappedBytes(t, pid, r.b.db); now != mapped {
		t.Errorf("%d bytes were mapped, and now %d", mapped, now)
	}
	limit(0)

	f := inject(t, r.b, "fdatasync,openat", "fdatasync,openat:error=EIO")
	refused := func() bool { return r.pass(10, 100) > 0 }
	eventually(t, "the history is closed", func() bool { return refused() && mappedBytes(t, pid, r.b.db) == 0 })
	limit(forGo)
	f.stop()
	eventually(t, "there is no memory", func() bool {
		_, why := r.health()
		return refused() && strings.Contains(why, "cannot allocate memory")
	})
	r.wantDegraded("cannot allocate memory")
	limit(0)
	r.wantRecovered()
	r.check()
	r.crash()
	measured(t, "no memory for mapping the history: %d updates kept, %d not, and back by itself", len(r.c.kept), r.unkept)
}

// mappedBytes gives how much of a file a process has mapped.
func mappedBytes(t *testing.T, pid int, path string) (n uint64) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), path) {
			continue
		}
		var from, to uint64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			t.Fatal(err)
		}
		n += to - from
	}
	return n
}
