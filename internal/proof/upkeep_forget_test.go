//go:build proof

package proof

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"tbhist/store/bolt"
	"tbhist/thing"
)

// cutRounds is how many trees are forgotten while power is cut.
const cutRounds = 6

// What a broker said to be forgotten stays forgotten, whenever the power is cut;
// what it was busy with is forgotten as a whole or not at all, and all else is
// there.
func TestPowerCutForget(t *testing.T) {
	before := t.TempDir()
	path := filepath.Join(before, cutFile)
	f := &cutForget{things: make(map[thing.Name]int)}
	f.make(t, path)
	began := readFolder(t, before)

	b := startBroker(t)
	b.stop()
	b.db = path
	trace := filepath.Join(t.TempDir(), "strace")
	b.under = traceTo(t, trace)
	b.start()
	for i := range cutRounds {
		b.command("forget", cutTree(i), "--tree")
		// The name begins anew.
		b.command("send", cutTree(i)+".t0", `{"n": "anew"}`)
	}
	endTraced(t, b)
	calls, err := readTrace(trace, before)
	if err != nil {
		t.Fatal(err)
	}
	cuts := (cutsWanted() + 3) / 4
	said := regexp.MustCompile(`msg=forgotten ns=` + cutTree(0)[:4] + `(\d+)`)
	told, done := -1, 0
	cutEach(t, began, calls, cuts, func(line string) {
		if m := said.FindStringSubmatch(line); m != nil {
			told, _ = strconv.Atoi(m[1]) // it matched
		}
	}, func(left string) error {
		is, err := f.check(t.Context(), filepath.Join(left, cutFile), told)
		if is > told {
			done++
		}
		return err
	})
	if n := len(slices.DeleteFunc(calls, func(c call) bool { return !said.Match(c.data) })); n != cutRounds {
		t.Errorf("%d trees were said to be forgotten", n)
	}
	measured(t, "%d power cuts while a broker forgot %d trees: none came back, none went in part; %d times one was gone before it was said", cuts, cutRounds, done)
}

func cutTree(i int) string { return "gone" + strconv.Itoa(i) }

// endTraced ends a broker that runs under strace, and waits for both.
func endTraced(t *testing.T, b *broker) {
	t.Helper()
	pid := b.cmd.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err == nil {
		err = syscall.Kill(child, syscall.SIGTERM)
	}
	if err != nil {
		t.Fatalf("the broker under strace: %q: %v", children, err)
	}
	<-b.exited
}

// cutForget is a history of which trees are forgotten: how many updates each of
// its Things has.
type cutForget struct{ things map[thing.Name]int }

// make makes it, of segments and a log.
func (f *cutForget) make(t *testing.T, path string) {
	t.Helper()
	db, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 4000; n += 500 {
		var batch []thing.Update
		for i := n; i < n+500; i++ {
			u := cutUpdate(i)
			u.Name = thing.Name(fmt.Sprintf("stay.t%d", i%3))
			if i%2 == 0 {
				u.Name = thing.Name(fmt.Sprintf("%s.t%d", cutTree(i/2%cutRounds), i%5))
			}
			f.things[u.Name]++
			batch = append(batch, u)
		}
		if _, err := db.Append(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// check demands that all trees up to told are gone, and those beyond the next
// one are there. It gives the last that is gone.
func (f *cutForget) check(ctx context.Context, path string, told int) (last int, err error) {
	if err := checkClean(ctx, path); err != nil {
		return 0, err
	}
	db, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	there := make(map[thing.Name]int)
	anew := make(map[thing.Name]uint64)
	if err := eachKept(ctx, db, func(u *thing.Update) error {
		if strings.Contains(string(u.Data), "anew") {
			anew[u.Name] = u.ThingSeq
			return nil
		}
		there[u.Name]++
		return nil
	}); err != nil {
		return 0, err
	}
	last = -1
	for i := range cutRounds {
		here, away := 0, 0
		for name, n := range f.things {
			if !name.Under(thing.Name(cutTree(i))) {
				continue
			}
			switch there[name] {
			case n:
				here++
			case 0:
				away++
			default:
				return 0, fmt.Errorf("%s has %d updates of %d", name, there[name], n)
			}
		}
		switch {
		case here > 0 && away > 0:
			return 0, fmt.Errorf("%s was forgotten in part", cutTree(i))
		case here > 0 && i <= told:
			return 0, fmt.Errorf("%s was forgotten, and is there again", cutTree(i))
		case away > 0 && i > told+1:
			return 0, fmt.Errorf("%s is gone before its time", cutTree(i))
		case away > 0:
			last = i
		}
		name := thing.Name(cutTree(i) + ".t0")
		if n, again := anew[name]; again && (n != 1 || here > 0) || !again && i < told {
			return 0, fmt.Errorf("%s began anew: %v, with thing_seq %d", name, again, n)
		}
	}
	for name, n := range f.things {
		if name.Under("stay") && there[name] != n {
			return 0, fmt.Errorf("%s has %d updates of %d", name, there[name], n)
		}
	}
	return last, nil
}
