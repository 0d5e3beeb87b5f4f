//go:build proof

package proof

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tbhist/internal/zmtp"
)

// With its file descriptors used up by others the broker goes on for those
// that it serves, without spinning, and takes new ones as soon as there are
// descriptors again: row 15 of docs/PROTOCOL.md, What a listener must
// withstand.
func TestHostileFileDescriptors(t *testing.T) {
	b := startBroker(t)
	out := dialBroker(t, b, zmtp.Sub, feedPort)
	if err := out.Subscribe([]byte(updatePrefix)); err != nil {
		t.Fatal(err)
	}
	in := dialBroker(t, b, zmtp.Pub, inputPort)
	sent := 0
	goes := func(n int) {
		t.Helper()
		for range n {
			sent++
			if err := in.Write(single(fmt.Sprintf(`["files.t", null, %d, null]`, sent))); err != nil {
				t.Fatal(err)
			}
			if err := in.Flush(); err != nil {
				t.Fatal(err)
			}
			f, err := out.Read()
			if err != nil {
				t.Fatal(err)
			}
			if seq, err := numberBehind(f.Body, `, "seq": `); err != nil || seq != uint64(sent) {
				t.Fatalf("update %d comes as %s (%v)", sent, f.Body, err)
			}
		}
	}
	eventually(t, "the subscriber is there", func() bool { return b.metric("tbhist_subscribers") == 1 })
	goes(10)

	pid := b.cmd.Process.Pid
	before, err := usageOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = uint64(before.descriptors + 30)
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	var crowd []net.Conn
	for range 60 {
		for _, port := range append([]int{httpPort}, zmqPorts...) {
			nc, err := net.Dial("tcp", b.addr(port))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			crowd = append(crowd, nc)
			if port == httpPort {
				_, _ = nc.Write([]byte("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
			} else {
				_, _ = nc.Write(append(greeting(0), readyAs(peerType[port])...))
			}
		}
	}
	eventually(t, "the three listeners say that they cannot accept", func() bool {
		return strings.Count(b.log.String(), "cannot accept connections") == 3
	})
	began, cpu := time.Now(), processorTime(t, pid)
	for time.Since(began) < 3*time.Second {
		goes(1)
		<-time.After(50 * time.Millisecond)
	}
	spent, within := processorTime(t, pid)-cpu, time.Since(began)
	if spent > within/2 {
		t.Errorf("%v of processor time were spent within %v", spent, within)
	}
	if now, err := usageOf(pid); err != nil || now.descriptors < before.descriptors+25 {
		t.Errorf("only %d descriptors are open, of %d (%v)", now.descriptors, before.descriptors+30, err)
	}

	for _, nc := range crowd {
		_ = nc.Close()
	}
	goes(10)
	late := dialBroker(t, b, zmtp.Dealer, historyPort)
	reply, err := zmtp.Request(t.Context(), late, []byte(`{"type": "replay"}`))
	if err != nil || len(reply) != 2 || strings.Count(string(reply[1]), "\n") != sent {
		t.Errorf("history is not answered: %v", err)
	}
	dialBroker(t, b, zmtp.Sub, feedPort)
	dialBroker(t, b, zmtp.Pub, inputPort)
	eventually(t, "the crowd's descriptors are back", func() bool {
		now, err := usageOf(pid)
		return err == nil && now.descriptors <= before.descriptors+5 && b.metric("tbhist_degraded") == 0
	})
	measured(t, "file descriptors used up by %d connections: %d updates went on through, %v of processor time in %v, all served again afterwards",
		len(crowd), sent, spent.Round(time.Millisecond), within.Round(time.Millisecond))
}

func dialBroker(t *testing.T, b *broker, role zmtp.Role, port int) *zmtp.Conn {
	t.Helper()
	c, err := zmtp.Dial(t.Context(), b.addr(port), zmtp.DialOptions{Role: role, Limits: zmtp.Limits{Handshake: patience}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// processorTime is what a process has used so far.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	var ticks int64
	for _, field := range strings.Fields(rest)[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100) // the kernel's USER_HZ
}
