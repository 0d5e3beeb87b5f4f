package cli

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal with a program on it.
type terminal struct {
	t             *testing.T
	master, slave *os.File

	mu      sync.Mutex // guards what follows
	written bytes.Buffer
	changed chan struct{} // closed, and made anew, when more is written
}

func newTerminal(t *testing.T, columns, lines uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, slave: slave, changed: make(chan struct{})}
	term.resize(columns, lines)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for b := make([]byte, 4096); ; {
			n, err := master.Read(b)
			term.mu.Lock()
			term.written.Write(b[:n])
			close(term.changed)
			term.changed = make(chan struct{})
			term.mu.Unlock()
			if err != nil { // nobody has the other end
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = slave.Close()
		<-ended
		_ = master.Close()
	})
	return term
}

func (term *terminal) resize(columns, lines uint16) {
	term.t.Helper()
	if err := unix.IoctlSetWinsize(int(term.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines}); err != nil {
		term.t.Fatal(err)
	}
}

// await waits until the screen, line by line, matches.
func (term *terminal) await(pattern string) []string {
	term.t.Helper()
	re := regexp.MustCompile(`^(?:` + pattern + `)$`)
	deadline := time.After(patience)
	for {
		term.mu.Lock()
		screen, changed := &emulator{}, term.changed
		screen.write(term.written.String())
		term.mu.Unlock()
		if re.MatchString(strings.Join(screen.text(), "\n")) {
			return screen.text()
		}
		select {
		case <-changed:
		case <-deadline:
			term.t.Fatalf("no %q on the screen:\n%s", pattern, strings.Join(screen.text(), "\n"))
		}
	}
}

// The table is drawn in place, over a restart of the broker too, and stays
// when it is interrupted.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	b := serve(t, dir)
	send := adaptor(t, b.port)
	send("shop.door", "open")
	send("lab", strings.Repeat("x", 200))
	send("shopping", 1)
	awaitMetric(t, b, "tbhist_history_updates", "3")
	for _, ns := range []string{"", "shop"} {
		term := newTerminal(t, 60, 24)
		cmd := command("things", "--watch", "--ns", ns, "--broker", b.broker)
		cmd.Env, cmd.Stdout = append(cleanEnv(), "TERM=xterm"), term.slave
		p, err := start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.kill)
		at := regexp.QuoteMeta(" at " + b.broker)
		const rest = ` +[\d.]+s +`
		if ns == "" {
			term.await("3 Things" + at + "\nTHING +AGE +RATE +DATA\nlab" + rest + `- +"x+…\nshop\.door` + rest + `- +"open"\nshopping` + rest + `- +1`)
			for _, line := range term.await("(?s).*") {
				if len([]rune(line)) > 59 {
					t.Errorf("%q is too wide", line)
				}
			}
			send("shop.door", "shut")
			term.await(`3 Things.*\nTHING.*\nlab.*\nshop\.door` + rest + `[\d.]+/(?:s|min) +"shut"\nshopping.*`)
			term.resize(40, 4)
			if err := p.cmd.Process.Signal(unix.SIGWINCH); err != nil {
				t.Fatal(err)
			}
			term.await(`3 Things.*\nTHING.*\n… and 3 more: --ns shows a part`)
		} else {
			term.await("1 Thing" + at + "\nTHING.*\nshop\\.door" + rest + `- +"shut"`)
			b.kill()
			term.await(`1 Thing, NOT CONNECTED: the connection to the broker is.*\nTHING.*\nshop\.door.*|1 Thing, NOT CONNECTED: no broker answers at.*\nTHING.*\nshop\.door.*`)
			b = serve(t, dir, "--listen", fmt.Sprintf("127.0.0.1:%d", b.port))
			send = adaptor(t, b.port)
			send("shop.a", 1)
			term.await("2 Things" + at + "\nTHING.*\nshop\\.a .*\nshop\\.door.*")
		}
		if code, err := p.end(syscall.SIGINT); err != nil || code != 0 || p.log() != "" {
			t.Errorf("it ends with %d, %v, and says %q", code, err, p.log())
		}
	}
}

// Where it cannot be shown, that is said.
func TestWatchRefuses(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--watch"}, 2, "--watch draws on a terminal, and this is none: see tbhist tail"},
		{[]string{"--watch", "--wide"}, 2, "leave --wide out"},
		{[]string{"--watch", "--at", "1h"}, 2, "leave --at out"},
	} {
		stdout, stderr, code := run(t, append([]string{"things"}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.want) || stdout != "" {
			t.Errorf("%q ends with %d, says %q and prints %q", c.args, code, stderr, stdout)
		}
	}
	dead, _ := silent(t)
	term := newTerminal(t, 60, 24)
	cmd := command("things", "--watch", "--broker", dead)
	cmd.Env, cmd.Stdout = append(cleanEnv(), "TERM=xterm"), term.slave
	p, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	<-p.exited
	if p.code != 1 || !strings.Contains(p.log(), "no broker answers at") {
		t.Errorf("without a broker it ends with %d and says %q", p.code, p.log())
	}
}
