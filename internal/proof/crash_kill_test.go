//go:build proof

package proof

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// crashProgram builds tbhist with its failpoints, once.
var crashProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(program), "tbhist-failpoint")
	if out, err := exec.Command("go", "build", "-tags", "failpoint", "-o", path, "tbhist").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building tbhist with failpoints: %w\n%s", err, out)
	}
	return path, nil
})

// crashKill says when a broker is killed: at a point that it passes for the
// n-th time, or so long after its start.
type crashKill struct {
	point string
	n     int
	after time.Duration
	// at is when, before that, it is told to "stop", or a "backup" or "forget"
	// begins. cut kills that command, too; cutAt has it kill itself at a point;
	// ended waits for its end.
	what  string
	at    time.Duration
	cut   bool
	cutAt string
	ended bool
	// changed starts it with other limits than it had, so that it writes a
	// checkpoint first; calm sends what segments keep nothing of.
	changed, calm bool
	// strace is what goes wrong with its system calls, as strace takes it.
	strace string
	// compact is how a compaction of the file is killed afterwards: at a point,
	// or "any instant"; "" for none.
	compact string
}

func (k crashKill) String() string {
	s := fmt.Sprintf("%v after its start", k.after)
	if k.ended {
		s = "in the end"
	}
	if k.point != "" {
		s = fmt.Sprintf("at %s:%d", k.point, k.n)
	}
	if k.what != "" {
		s += fmt.Sprintf(", %s after %v", k.what, k.at)
	}
	if k.cutAt != "" {
		s += " until " + k.cutAt
	}
	if k.strace != "" {
		s += ", with " + k.strace
	}
	if k.compact != "" {
		s += fmt.Sprintf(", then compacted until %s", k.compact)
	}
	return s
}

// kind is what rounds are counted by.
func (k crashKill) kind() string {
	switch {
	case k.point != "":
		return k.point
	case k.what != "":
		return k.what
	}
	return "any instant"
}

func (k crashKill) env() []string {
	if k.point == "" {
		return nil
	}
	return []string{fmt.Sprintf("TBHIST_FAILPOINT=%s:%d", k.point, k.n)}
}

// Bounds of the instants.
const (
	crashRound      = 2500 * time.Millisecond
	crashStarting   = 200 * time.Millisecond // a start takes about half of it
	crashStopping   = 150 * time.Millisecond
	crashCopying    = 800 * time.Millisecond
	crashForgetting = 40 * time.Millisecond
)

// crashKills gives as many kills as rounds are wanted: all kinds in turn, the
// kinds in an order of their own each time.
func crashKills(random *rand.Rand, rounds int) []crashKill {
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	chance := func() bool { return random.IntN(2) == 0 }
	point := func(name string, most int) crashKill { return crashKill{point: name, n: 1 + random.IntN(most)} }
	during := func(what, name string, most int) crashKill {
		k := crashKill{what: what, at: time.Second + upTo(time.Second/2)}
		if name != "" {
			k.point, k.n = name, 1+random.IntN(most)
		}
		return k
	}
	within := func(k crashKill, d time.Duration) crashKill {
		k.after = k.at + upTo(d)
		return k
	}
	calm := func(k crashKill) crashKill {
		k.calm = true
		return k
	}
	compacted := func(k crashKill, how string) crashKill {
		k.compact = how
		return k
	}
	// A checkpoint is written at a start with other limits, and at a stop.
	checkpoint := func(name string) crashKill {
		if chance() {
			return during("stop", name, 1)
		}
		return crashKill{point: name, n: 1, changed: true}
	}
	// The end at a write in the middle of a commit, or errors of syncs: a commit
	// syncs twice, its pages and then the meta page. strace counts the calls of
	// each thread by themselves.
	writing := func() crashKill {
		n := 100 + random.IntN(1500)
		return crashKill{point: "pwrite64", n: n, strace: fmt.Sprintf("pwrite64:signal=SIGKILL:when=%d", n)}
	}
	refused := func(name string) crashKill {
		return crashKill{point: name, n: 1, strace: fmt.Sprintf("fdatasync:error=EIO:when=%d+7", 20+random.IntN(50))}
	}
	kinds := []func() crashKill{
		writing,
		func() crashKill { return refused("reopen.meta") },
		func() crashKill { return refused("reopen.write") },
		func() crashKill { return crashKill{after: upTo(crashRound)} },
		func() crashKill { return compacted(crashKill{after: upTo(crashRound)}, "compact.swap") },
		func() crashKill { return crashKill{after: upTo(crashStarting), changed: chance()} },
		func() crashKill {
			return compacted(crashKill{after: upTo(crashStarting), changed: chance()}, "any instant")
		},
		func() crashKill { return within(during("stop", "", 0), crashStopping) },
		func() crashKill { return point("append.commit", 300) },
		func() crashKill { return point("append.after", 300) },
		func() crashKill {
			return compacted(point("seal.commit", 3), fmt.Sprintf("compact.segment:%d", 1+random.IntN(3)))
		},
		func() crashKill { return point("seal.after", 3) },
		func() crashKill { return point("rewrite.commit", 3) },
		func() crashKill { return point("rewrite.after", 3) },
		func() crashKill { return calm(point("drop.commit", 2)) },
		func() crashKill { return calm(point("drop.after", 2)) },
		func() crashKill { return during("stop", "checkpoint.part", 1) },
		func() crashKill { return checkpoint("checkpoint.last") },
		func() crashKill { return checkpoint("checkpoint.after") },
		func() crashKill { return during("backup", "backup.segment", 3) },
		func() crashKill {
			k := within(during("backup", "", 0), crashCopying)
			k.cut = chance()
			return k
		},
		func() crashKill {
			k := during("backup", "", 0)
			k.ended, k.cutAt = true, "backup.swap"
			return k
		},
		func() crashKill {
			k := during("backup", "", 0)
			k.ended = true
			return k
		},
		func() crashKill { return during("forget", "forget.commit", 1) },
		func() crashKill { return during("forget", "forget.after", 1) },
		func() crashKill { return within(during("forget", "", 0), crashForgetting) },
	}
	kills := []crashKill{{after: crashRound}} // rings and checkpoints have something to hold then
	for len(kills) < rounds {
		for _, i := range random.Perm(len(kinds)) {
			kills = append(kills, kinds[i]())
		}
	}
	return kills[:rounds]
}

// await has the broker, which has just been launched, killed and waits for
// its end. begin starts what is to be under way then, which is given back.
func (k crashKill) await(b *broker, begin func(crashKill) (*upkeep, error)) (u *upkeep, err error) {
	began := time.Now()
	if k.what != "" {
		select {
		case <-time.After(k.at):
		case <-b.exited:
		}
		if k.what == "stop" {
			_ = b.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		} else if u, err = begin(k); err != nil {
			b.kill()
			return nil, err
		}
	}
	if k.ended {
		select {
		case <-u.done:
		case <-time.After(patience):
		}
	}
	if k.point == "" {
		select {
		case <-time.After(k.after - time.Since(began)):
		case <-b.exited: // told to, before its time
		}
		if k.cut {
			_ = u.cmd.Process.Kill() // it may have ended
		}
		b.kill()
	} else {
		var ended chan struct{}
		if k.what == "backup" {
			ended = u.done // where room is short, before its time
		}
		select {
		case <-b.exited:
		case <-ended:
			b.kill()
		case <-time.After(patience):
			b.kill()
			return u, fmt.Errorf("within %v %s was not passed %d times", patience, k.point, k.n)
		}
	}
	state, _ := b.cmd.ProcessState.Sys().(syscall.WaitStatus)
	stopped := k.what == "stop" && k.point == "" && state.Exited() && state.ExitStatus() == 0
	if !stopped && state.Signal() != syscall.SIGKILL {
		return u, fmt.Errorf("the broker ended by itself: %v\n%s", b.cmd.ProcessState, lastLog(b))
	}
	return u, nil
}

// lastLog gives the end of what a broker logged.
func lastLog(b *broker) string {
	log := b.log.String()
	return log[max(0, len(log)-4000):]
}

// complaints gives the lines in which a broker says that something is wrong,
// but for the errors that it was made to meet.
func complaints(log string) error {
	var errs []error
	for line := range strings.Lines(log) {
		if strings.Contains(line, "input/output error") || strings.Contains(line, "the disk refuses commits") {
			continue // the latter is seen by what comes without a seq
		}
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "panic") {
			errs = append(errs, errors.New("the broker says: "+strings.TrimSpace(line)))
		}
	}
	return errors.Join(errs...)
}

// The program that is installed has no failpoints: not even their names.
func TestNoFailpoints(t *testing.T) {
	points := map[string]bool{"TBHIST_FAILPOINT": true}
	for _, kill := range crashKills(rand.New(rand.NewPCG(1, 2)), 200) {
		if kill.point != "" && kill.strace == "" {
			points[kill.point] = true
		}
		if point, _, _ := strings.Cut(kill.compact, ":"); strings.Contains(point, ".") {
			points[point] = true
		}
		if kill.cutAt != "" {
			points[kill.cutAt] = true
		}
	}
	with, err := crashProgram()
	if err != nil {
		t.Fatal(err)
	}
	has := func(path, name string) bool {
		binary, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(binary, []byte(name))
	}
	for name := range points {
		if !has(with, name) {
			t.Errorf("%s is in no program, or nothing passes it", name)
		}
		if has(program, name) {
			t.Errorf("%s is in the program that is installed", name)
		}
	}
}
