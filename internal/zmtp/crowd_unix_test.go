//go:build linux || darwin

package zmtp

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Row 14 of docs/PROTOCOL.md, What a listener must withstand.
func TestRow14Crowd(t *testing.T) {
	const crowd = 2000
	raiseFDs(t, 2*2*crowd+200)
	for _, role := range listenerRoles {
		t.Run(string(role), func(t *testing.T) {
			// No handshake ends for its time, however slow this machine is.
			tl := listen(t, ListenerOptions{Role: role, Limits: Limits{Handshake: time.Hour}}, serveRole(role, nil))
			good := shake(t, tl.addr, peerOf(role), 0)
			check(good, role)
			before := heapInUse()
			idle := make([]*raw, crowd)
			for i := range idle {
				idle[i] = dialRaw(t, tl.addr)
				idle[i].send(greeting(0), ready(peerOf(role)))
				idle[i].shaken()
				idle[i].br = nil // does not count as the listener's memory
			}
			wait(t, "the crowd is in", func() bool { return tl.Conns() == 1+crowd })
			silent := make([]net.Conn, crowd)
			for i := range silent {
				nc, err := net.Dial("tcp", tl.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = nc.Close() }()
				silent[i] = nc
				if i%100 == 0 {
					check(good, role)
					works(t, tl.addr, role)
				}
			}
			wait(t, "handshakes are capped", func() bool { return tl.Conns() <= 1+crowd+DefaultLimits().MaxHandshakes })
			grown := int64(heapInUse()) - int64(before)
			t.Logf("%d connections hold %d bytes", tl.Conns(), grown)
			if grown > 64<<20 {
				t.Errorf("the heap grew by %d bytes", grown)
			}
			wait(t, "handshakes made room", func() bool {
				return tl.count(refusedHandshakeLimit) >= crowd-DefaultLimits().MaxHandshakes
			})
			for _, nc := range silent {
				_ = nc.Close()
			}
			wait(t, "the silent are gone, each counted once", func() bool {
				return tl.Conns() == 1+crowd && tl.count(refusedHandshakeLimit)+tl.count(refusedHandshake) == crowd
			})
			check(good, role)
			works(t, tl.addr, role)
		})
	}
}

// Row 15: the listener survives that file descriptors are used up. It runs
// in a process of its own, whose limit can be lowered.
func TestRow15FileDescriptors(t *testing.T) {
	if os.Getenv("ZMTP_TEST_FEW_FDS") != "" {
		fewFDs(t)
		return
	}
	ctx := deadlineContext(t)
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestRow15FileDescriptors$", "-test.v")
	cmd.Env = append(os.Environ(), "ZMTP_TEST_FEW_FDS=1")
	out, err := cmd.CombinedOutput()
	_, _ = t.Output().Write(out)
	if err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("the process with few file descriptors: %v", err)
	}
}

func fewFDs(t *testing.T) {
	tl := listen(t, ListenerOptions{Role: Router, Limits: Limits{Handshake: 30 * time.Second}}, serveRole(Router, nil))
	good := shake(t, tl.addr, "REQ", 0)
	check(good, Router)
	used := openFDs()
	lowerFDs(t, used+20)
	var crowd []net.Conn
	for {
		// Each takes two descriptors of this process; those beyond stay in
		// the kernel's queue.
		nc, err := net.Dial("tcp", tl.addr)
		if err != nil {
			break
		}
		crowd = append(crowd, nc)
	}
	if len(crowd) < 5 {
		t.Fatalf("only %d connections were made", len(crowd))
	}
	cpu := processCPU(t)
	wait(t, "the failure is logged", func() bool { return strings.Contains(tl.logs.String(), "cannot accept connections") })
	if spent := processCPU(t) - cpu; spent > 500*time.Millisecond {
		t.Errorf("%v of processor time were spent waiting", spent)
	}
	check(good, Router)
	for _, nc := range crowd {
		_ = nc.Close()
	}
	works(t, tl.addr, Router)
	wait(t, "only the good peer is left", func() bool { return tl.Conns() == 1 })
	if n := strings.Count(tl.logs.String(), "cannot accept connections"); n != 1 {
		t.Errorf("%d log lines", n)
	}
}

// raiseFDs makes sure that n file descriptors may be open.
func raiseFDs(t *testing.T, n uint64) {
	t.Helper()
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Cur >= n {
		return
	}
	old := l
	l.Cur = min(n, l.Max)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Max < n {
		t.Fatalf("%d file descriptors are needed, the limit is %d (%v)", n, old.Max, err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) })
}

// lowerFDs lets no more than n file descriptors be open, for good.
func lowerFDs(t *testing.T, n int) {
	t.Helper()
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	l.Cur = uint64(n)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
}

// processCPU gives the processor time this process has used.
func processCPU(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
