//go:build proof

package proof

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"tbhist/client"
	"tbhist/thing"
)

// gone is the namespace that is forgotten now and then.
const gone = "gone"

// upkeep is a command beside the broker, or upon its file.
type upkeep struct {
	cmd  *exec.Cmd
	said bytes.Buffer
	done chan struct{} // closed when it has ended
	// head is the newest seq before a backup.
	head uint64
}

// command starts one of tbhist's with the failpoints of env.
func (c *crash) command(env []string, args ...string) (*upkeep, error) {
	u := &upkeep{cmd: exec.Command(c.b.program, args...), done: make(chan struct{})}
	u.cmd.Env = append(cleanEnv(), env...)
	u.cmd.Stdout, u.cmd.Stderr = &u.said, &u.said
	if err := u.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(u.done)
		_ = u.cmd.Wait() // its state tells
	}()
	return u, nil
}

// wait waits for its end, and tells whether it did what it was to do.
func (u *upkeep) wait() (ok bool, err error) {
	select {
	case <-u.done:
		return u.cmd.ProcessState.Success(), nil
	case <-time.After(patience):
		_ = u.cmd.Process.Kill()
		<-u.done
		return false, fmt.Errorf("%q did not end: %s", u.cmd.Args[1:], &u.said)
	}
}

// killed tells whether SIGKILL ended it.
func (u *upkeep) killed() bool {
	state, _ := u.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return state.Signal() == syscall.SIGKILL
}

// begin starts what is to be under way when the broker is killed.
func (c *crash) begin(kill crashKill) (*upkeep, error) {
	if err := c.b.awaitReady(); err != nil {
		return nil, err
	}
	if kill.what == "forget" {
		return c.command(nil, "forget", gone, "--tree", "--broker", c.b.url(feedPort))
	}
	head, err := c.head()
	if err != nil {
		return nil, err
	}
	var env []string
	if kill.cutAt != "" {
		env = []string{"TBHIST_FAILPOINT=" + kill.cutAt}
	}
	u, err := c.command(env, "db", "backup", c.copied, "--quiet", "--broker", c.b.url(feedPort))
	if err == nil {
		u.head = head
	}
	return u, err
}

// head asks for the newest seq.
func (c *crash) head() (uint64, error) {
	asker, err := client.New(client.Options{Broker: c.b.url(feedPort)})
	if err != nil {
		return 0, err
	}
	replay := asker.Replay(c.t.Context(), client.Query{Limit: 1})
	for _, err := range replay.Lines() {
		if err != nil {
			return 0, err
		}
	}
	return replay.Head, nil
}

// endBackup looks at what a backup left behind: nothing under its name, or
// all of history as of its start.
func (c *crash) endBackup(u *upkeep, kill crashKill) error {
	ok, err := u.wait()
	if err != nil {
		return err
	}
	_, err = os.Stat(c.copied)
	switch {
	case ok && err != nil:
		return fmt.Errorf("the backup is done, and not there: %w", err)
	case !ok && err == nil:
		return fmt.Errorf("the backup was not done, and is there: %s", &u.said)
	case !ok && kill.cutAt != "" && u.killed():
		c.hit[kill.cutAt]++
		return nil
	case !ok && kill.ended && !strings.Contains(c.b.log.String(), "backup not sent"):
		return fmt.Errorf("the backup failed: %s", &u.said)
	case !ok:
		c.hit["backup cut off"]++
		return nil
	}
	c.hit["backup done"]++
	if err := c.sound(c.copied); err != nil {
		return err
	}
	lines := exec.Command(c.b.program, "db", "export", "-", "--quiet", "--from-db", c.copied)
	lines.Env = cleanEnv()
	out, err := lines.Output()
	if err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	reading, scanner := c.m.read(), bufio.NewScanner(bytes.NewReader(out))
	scanner.Buffer(nil, mib)
	for scanner.Scan() {
		if err := reading.line(scanner.Bytes()); err != nil {
			return fmt.Errorf("in the backup: %w", err)
		}
	}
	if reading.seq < u.head {
		return fmt.Errorf("the backup ends with seq %d, and was begun at %d", reading.seq, u.head)
	}
	if given := reading.given(); given != reading.seq {
		return fmt.Errorf("the backup ends with seq %d, and its Things had %d updates", reading.seq, given)
	}
	return errors.Join(scanner.Err(), os.Remove(c.copied))
}

// endForget tells whether the Things must be gone (+1), must be there (−1), or
// may be either (0).
func (c *crash) endForget(u *upkeep, kill crashKill) (int, error) {
	ok, err := u.wait()
	switch {
	case err != nil:
		return 0, err
	case ok && kill.point != "":
		return 0, fmt.Errorf("forget did what it was to do, and the broker was killed %v: %s", kill, &u.said)
	case ok, kill.point == "forget.after":
		return 1, nil
	case kill.point == "forget.commit":
		return -1, nil
	}
	return 0, nil
}

// forget takes in whether forgetting took place: all of it or nothing. asked is
// what endForget told.
func (r *reading) forget(asked int) error {
	var here, away []thing.Name
	for name, t := range r.m.things {
		if !name.Under(gone) {
			continue
		}
		if t.readLast > 0 {
			here = append(here, name)
		} else {
			away = append(away, name)
		}
	}
	switch {
	case len(here) > 0 && len(away) > 0:
		return fmt.Errorf("forgotten in part: %q are gone, and %q are not", away, here)
	case asked > 0 && len(here) > 0:
		return fmt.Errorf("%q were forgotten, and are there again", here)
	case asked < 0 && len(away) > 0:
		return fmt.Errorf("%q are gone, and were not yet forgotten", away)
	}
	for _, name := range away {
		t := r.m.things[name]
		r.m.forgotten += t.first + uint64(len(t.facts)) - 1
		delete(r.m.things, name)
	}
	return nil
}

// sound has a file that nobody has open checked.
func (c *crash) sound(path string) error {
	u, err := c.command(nil, "db", "check", path)
	if err != nil {
		return err
	}
	ok, err := u.wait()
	if err == nil && !ok {
		err = fmt.Errorf("db check: %s", &u.said)
	}
	return err
}

// compact has the file compacted, and killed at a point, after a while, or not
// at all. The file is whole in any case; what is in it is looked at later.
func (c *crash) compact(how string) error {
	var env []string
	after, cut := time.Duration(0), false
	switch how {
	case "":
		return nil
	case "any instant":
		after, cut = time.Duration(c.random.Int64N(int64(time.Second))), true
	default:
		env = []string{"TBHIST_FAILPOINT=" + how}
	}
	u, err := c.command(env, "db", "compact", "--quiet", c.b.db)
	if err != nil {
		return err
	}
	if cut {
		select {
		case <-u.done:
		case <-time.After(after):
			_ = u.cmd.Process.Kill() // it may have ended
		}
	}
	ok, err := u.wait()
	switch {
	case err != nil:
		return err
	case !ok && !u.killed():
		return fmt.Errorf("db compact: %s", &u.said)
	case env != nil && ok:
		return fmt.Errorf("db compact has not passed %s", how)
	}
	point, _, _ := strings.Cut(how, ":")
	if ok {
		point = "done"
	}
	c.hit["compact "+strings.TrimPrefix(point, "compact.")]++
	return c.sound(c.b.db)
}
