//go:build proof

package proof

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tbhist/client"
)

// The broker under load from several senders is killed again and again, at
// instants of chance and at those that are worth it. Whatever anybody saw of
// it, and whatever it held, is there byte for byte when it is started again,
// unless its limits say otherwise.
//
// TBHIST_CRASH_ROUNDS says how often, TBHIST_CRASH_SEED has the same choices
// made again.
func TestCrash(t *testing.T) {
	program, err := crashProgram()
	if err != nil {
		t.Fatal(err)
	}
	rounds := int(crashSetting(t, "TBHIST_CRASH_ROUNDS", 27))
	seed := crashSetting(t, "TBHIST_CRASH_SEED", rand.Int64())
	t.Logf("TBHIST_CRASH_SEED=%d", seed)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	c := &crash{
		t: t, m: newCrashModel(), random: random, load: newCrashLoad(random), limits: crashSets[0],
		b:     &broker{t: t, db: filepath.Join(t.TempDir(), "tbhist.db"), port: freePorts(t), program: program},
		hit:   map[string]int{},
		saved: filepath.Join(t.TempDir(), "killed.db"), copied: filepath.Join(t.TempDir(), "backup.db"),
	}
	t.Cleanup(func() {
		if c.b.cmd != nil {
			c.b.kill()
		}
		if t.Failed() {
			c.keepFile(seed)
		}
	})
	for i, kill := range crashKills(random, rounds) {
		if kill.what == "forget" && !c.m.has(gone) {
			c.round(i+1, crashKill{after: crashRound})
		}
		c.round(i+1, kill)
	}
	c.stop()
	measured(t, "%d times SIGKILL under load, %v: %d updates seen, none lost of what the limits hold; %d read back, %d evicted for the size of the file; started again in %d ms at most",
		rounds, c.hit, c.m.seen, c.read, c.m.sized, c.slowest.Milliseconds())
}

func crashSetting(t *testing.T, name string, otherwise int64) int64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q", name, s)
	}
	return n
}

// crash is a test under way.
type crash struct {
	t      *testing.T
	m      *crashModel
	random *rand.Rand
	load   *crashLoad
	b      *broker
	limits crashLimits // in force
	saved  string      // a copy of the file as the last kill left it
	copied string      // the broker's backup

	hit     map[string]int // kills, by kind
	read    uint64
	slowest time.Duration
	// sizedBefore is what noteSized found in the log of the present broker.
	sizedBefore uint64
}

// round kills a broker under load and looks at what is left.
func (c *crash) round(no int, kill crashKill) {
	c.t.Helper()
	began := time.Now()
	seen := c.m.seen
	loaded := crashSets[c.random.IntN(len(crashSets))]
	for kill.changed && loaded == c.limits {
		loaded = crashSets[c.random.IntN(len(crashSets))]
	}
	fail := func(err error) {
		if err != nil {
			c.t.Helper()
			c.t.Fatalf("round %d, killed %v: %v", no, kill, err)
		}
	}

	c.b.args, c.b.env, c.b.under = loaded.args(), kill.env(), nil
	c.m.refused = strings.Contains(kill.strace, "error=")
	if kill.strace != "" {
		c.b.under = struck(c.t, kill.strace)
	}
	fail(c.b.launch())
	watch := watchFeed(c.t.Context(), c.b, c.m)
	stop := c.load.start(c.t.Context(), c.b, no, func(s *source) bool {
		return (s.steady || !kill.calm) && (s.root != gone || kill.what != "forget")
	})
	command, killed := kill.await(c.b, c.begin)
	stop()
	watched := watch.finish()
	fail(errors.Join(copyFile(c.saved, c.b.db), killed, watched, c.logged()))
	c.hit[kill.kind()]++
	asked := -1
	switch kill.what {
	case "backup":
		fail(c.endBackup(command, kill))
	case "forget":
		asked, killed = c.endForget(command, kill)
		fail(killed)
	}
	if _, err := os.Stat(c.b.db); err == nil {
		fail(c.sound(c.b.db))
		fail(c.compact(kill.compact))
	}
	up := strings.Contains(c.b.log.String(), "msg=ready")

	next := crashSets[c.random.IntN(len(crashSets))]
	c.b.args, c.b.env, c.b.under = next.args(), nil, nil
	started := time.Now()
	fail(c.b.try())
	c.slowest = max(c.slowest, time.Since(started))
	sure, maybe := []crashLimits{next}, []crashLimits{loaded}
	if up {
		sure, maybe = append(sure, loaded), nil
	}
	fail(c.check(sure, maybe, asked))
	c.limits = next
	if c.random.IntN(4) == 0 {
		c.b.stop()
	} else {
		c.b.kill()
	}
	fail(c.logged())
	c.t.Logf("round %d, killed %v: %d updates seen, %v", no, kill, c.m.seen-seen, time.Since(began).Round(time.Millisecond))
}

// stop ends the broker that is there.
func (c *crash) stop() { c.b.kill() }

// check is checkOnce, done again where the broker evicted something for the
// size of the file meanwhile.
func (c *crash) check(sure, maybe []crashLimits, forgotten int) error {
	for {
		c.noteSized()
		before := c.m.sizedMost
		err := c.checkOnce(sure, maybe, forgotten)
		c.noteSized()
		if err == nil || c.m.sizedMost == before {
			return err
		}
	}
}

// checkOnce reads all there is and compares it with what is known; forgotten
// is what endForget told.
func (c *crash) checkOnce(sure, maybe []crashLimits, forgotten int) error {
	asker, err := client.New(client.Options{Broker: c.b.url(feedPort)})
	if err != nil {
		return err
	}
	reading := c.m.read()
	replay := asker.Replay(c.t.Context(), client.Query{})
	for line, err := range replay.Lines() {
		if err == nil {
			err = reading.line(line)
		}
		if err != nil {
			return err
		}
	}
	if c.m.epoch == "" {
		c.m.epoch = replay.Epoch
	}
	if replay.Epoch != c.m.epoch {
		return fmt.Errorf("the epoch was %s and is %s", c.m.epoch, replay.Epoch)
	}
	if gone := replay.Head - reading.lines; replay.Evicted != gone || !replay.EvictedExact {
		return fmt.Errorf("the answer lacks %d updates up to seq %d, and tells of %d (exactly: %v)", gone, replay.Head, replay.Evicted, replay.EvictedExact)
	}
	if err := reading.forget(forgotten); err != nil {
		return err
	}
	if err := reading.complete(replay.Head, sure, maybe); err != nil {
		return err
	}
	c.read += reading.lines

	things := 0
	for entry, err := range asker.Things(c.t.Context(), client.ThingsQuery{Wide: true}) {
		if err == nil {
			things++
			err = c.m.directory(&entry.Update, entry.Doc, entry.Wide.Kept)
		}
		if err != nil {
			return err
		}
	}
	if things != len(c.m.things) {
		return fmt.Errorf("the directory has %d Things, and history %d", things, len(c.m.things))
	}
	info, err := os.Stat(c.b.db)
	switch {
	case err != nil:
		return err
	case info.Size() > crashMaxDB:
		return fmt.Errorf("the file has %d bytes, more than --max-db", info.Size())
	}
	if held := c.b.metric("tbhist_history_updates"); held != float64(reading.lines) {
		return fmt.Errorf("history has %d updates, and /metrics says %.0f", reading.lines, held)
	}
	return nil
}

// logged looks at what the broker logged, now that it has ended.
func (c *crash) logged() error {
	c.noteSized()
	c.sizedBefore = 0
	return complaints(c.b.log.String())
}

// noteSized takes in what the broker's log says of updates evicted for the
// size of the file.
func (c *crash) noteSized() {
	var sum uint64
	for line := range strings.Lines(c.b.log.String()) {
		if _, rest, ok := strings.Cut(line, "the oldest updates were evicted\" evicted="); ok {
			n, _, _ := strings.Cut(rest, " ")
			evicted, err := strconv.ParseUint(n, 10, 64)
			if err != nil {
				c.t.Fatalf("%v in %q", err, line)
			}
			sum += evicted
		}
	}
	c.m.sizedMost += sum - c.sizedBefore
	c.sizedBefore = sum
}

// keepFile puts the file of the last kill where it outlives the test.
func (c *crash) keepFile(seed int64) {
	kept := filepath.Join(os.TempDir(), fmt.Sprintf("tbhist-crash-%d.db", seed))
	if err := copyFile(kept, c.saved); err != nil {
		c.t.Logf("the file is not kept: %v", err)
		return
	}
	c.t.Logf("TBHIST_CRASH_SEED=%d; the file as the last kill left it is %s; the last broker's log:\n%s", seed, kept, lastLog(c.b))
}

// copyFile makes a new file of what is in another.
func copyFile(to, from string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	source, err := os.Open(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil // killed before it made one
	}
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}
