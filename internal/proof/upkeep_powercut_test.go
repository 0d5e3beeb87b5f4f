//go:build proof

package proof

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"tbhist/store"
	"tbhist/store/bolt"
	"tbhist/thing"
)

// cutCommand is a command of upkeep that power is cut from, run in a folder
// that has what it works on.
type cutCommand struct {
	name string
	args []string
	file string // the one that it makes or changes
	most int    // KiB that it may write to a file, so that it ends with 1; 0: as many as it likes
	// done is what it says when what it was to do is done.
	done  string
	check func(ctx context.Context, c *cutLeft) (done bool, err error)
}

// cutLeft is what a power cut left of the file that a command works on. A check
// of it tells whether what was to be done is done.
type cutLeft struct {
	path          string
	exists        bool
	before, after string   // the file as it was, and as the command left it
	told          []string // what done matched in what was said, nil if nothing
}

// What the commands work on: plain.db has so many updates, more.db those that
// follow.
const (
	cutPlain = 3000
	cutMore  = 17000
	cutMode  = 0o640
)

// Whenever the power is cut from a command of upkeep, there is the old file or
// the new one, whole; and the new one, once the command has said so.
func TestPowerCutUpkeep(t *testing.T) {
	before := t.TempDir()
	makeHistory(t, filepath.Join(before, cutFile), cutOptions, 0, 4000)
	makeHistory(t, filepath.Join(before, "plain.db"), bolt.Options{}, 0, cutPlain)
	makeHistory(t, filepath.Join(before, "more.db"), bolt.Options{}, cutPlain, cutMore)
	runTbhist(t, before, "db", "export", "more.json", "--quiet", "--from-db", "more.db")
	runTbhist(t, before, "db", "export", "lines.json", "--quiet", "--from-db", "plain.db")
	b := startBroker(t)
	b.stop()
	if err := copyFile(b.db, filepath.Join(before, cutFile)); err != nil {
		t.Fatal(err)
	}
	b.start()
	runTbhist(t, before, "db", "backup", "backup.db", "--quiet", "--broker", b.url(feedPort))
	b.command("send", "all.a1", `{"since": "the last backup"}`)

	imported := `([\d,]+) updates were imported`
	all := []cutCommand{
		{
			name: "compact", args: []string{"db", "compact", cutFile}, file: cutFile,
			done: `before, .* now`, check: cutCompact,
		},
		{
			name: "import", args: []string{"db", "import", "more.json", "--db", "plain.db"}, file: "plain.db",
			done: imported, check: cutImport,
		},
		{
			name: "import into a new file", args: []string{"db", "import", "more.json", "--db", "new.db"}, file: "new.db",
			done: imported, check: cutImport,
		},
		{
			name: "import that fails", args: []string{"db", "import", "more.json", "--db", "plain.db"}, file: "plain.db",
			most: 8000, done: `what came before \(([\d,]+) updates\) is imported and stays`, check: cutImport,
		},
		{
			name: "new-epoch", args: []string{"db", "new-epoch", cutFile}, file: cutFile,
			done: `(?m)^([0-9a-f]{8})$`, check: cutNewEpoch,
		},
		{
			name: "backup", args: []string{"db", "backup", "first.db", "--broker", b.url(feedPort)}, file: "first.db",
			done: `first.db: .* up to seq 4,?001 `, check: cutWritten,
		},
		{
			name: "backup over another", args: []string{"db", "backup", "backup.db", "--broker", b.url(feedPort)}, file: "backup.db",
			done: `backup.db: .* up to seq 4,?001 `, check: cutWritten,
		},
		{
			name: "export over another", args: []string{"db", "export", "lines.json", "--from-db", "more.db"}, file: "lines.json",
			done: `lines.json: .* updates`, check: cutWritten,
		},
	}
	cuts := (cutsWanted() + len(all) - 1) / len(all)
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.cut(t, before, cuts)
		})
	}
}

// cut records the command, and cuts the power from it.
func (c *cutCommand) cut(t *testing.T, before string, cuts int) {
	after := filepath.Join(t.TempDir(), "after")
	if err := os.CopyFS(after, os.DirFS(before)); err != nil {
		t.Fatal(err)
	}
	// Not those that a new file has, so that it must be given them.
	if err := os.Chmod(filepath.Join(after, cutFile), cutMode); err != nil {
		t.Fatal(err)
	}
	began := readFolder(t, after)
	cmd := exec.Command(program, c.args...)
	cmd.Dir, cmd.Env = after, cleanEnv()
	if c.most > 0 {
		limited := fmt.Sprintf(`ulimit -f %d; exec "$0" "$@"`, c.most)
		cmd.Path, cmd.Args = "/bin/bash", append([]string{"bash", "-c", limited, program}, c.args...)
	}
	calls, ok := record(t, after, cmd)
	if ok == (c.most > 0) {
		t.Fatalf("tbhist %q: done is %v", c.args, ok)
	}
	said := regexp.MustCompile(c.done)
	left := cutLeft{before: filepath.Join(before, c.file), after: filepath.Join(after, c.file)}
	done := 0
	cutEach(t, began, calls, cuts, func(line string) {
		if m := said.FindStringSubmatch(line); m != nil {
			left.told = m
		}
	}, func(folder string) error {
		left.path = filepath.Join(folder, c.file)
		_, err := os.Stat(left.path)
		if left.exists = err == nil; !left.exists && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		is, err := c.check(t.Context(), &left)
		if is {
			done++
		}
		return err
	})
	var all []byte
	for i := range calls {
		if calls[i].kind == callSaid {
			all = append(all, calls[i].data...)
		}
	}
	if !said.Match(all) {
		t.Errorf("tbhist %q did not say %q but\n%s", c.args, said, all)
	}
	measured(t, "%d power cuts in %s: %d times it was done, %d times not", cuts, c.name, done, cuts-done)
}

// makeHistory makes a history of so many updates from number n on.
func makeHistory(t *testing.T, path string, o bolt.Options, n, count int) {
	t.Helper()
	db, err := bolt.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	var batch []thing.Update
	for i := n; i < n+count; i++ {
		if batch = append(batch, cutUpdate(i)); len(batch) < 500 && i+1 < n+count {
			continue
		}
		if _, err := db.Append(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		batch = batch[:0]
	}
	if err := errors.Join(db.Maintain(), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func runTbhist(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = dir, cleanEnv()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tbhist %q: %v: %s", args, err, out)
	}
}

// contents is all that can be asked of a history.
type contents struct {
	store.State
	sum [sha256.Size]byte
}

// readContents reads a file without writing to it.
func readContents(ctx context.Context, path string) (c contents, err error) {
	r, err := bolt.OpenReadOnly(path, bolt.Options{})
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	sum := sha256.New()
	c.State = r.State()
	if err := eachKept(ctx, r, func(u *thing.Update) error {
		_, err := fmt.Fprintln(sum, u.Name, u.Seq, u.ThingSeq, u.TS, u.Received, string(u.Data), string(u.Doc))
		return err
	}); err != nil {
		return c, err
	}
	sum.Sum(c.sum[:0])
	return c, nil
}

// eachKept reads all of a history.
func eachKept(ctx context.Context, from interface {
	Read(ctx context.Context, q store.Query, yield func(*thing.Update) bool) (store.Page, error)
}, fn func(u *thing.Update) error,
) error {
	q := store.Query{Tree: true}
	for {
		var bad error
		page, err := from.Read(ctx, q, func(u *thing.Update) bool {
			bad = fn(u)
			return bad == nil
		})
		if err := cmp.Or(bad, err); err != nil || page.Next == nil {
			return err
		}
		q.Resume = page.Next
	}
}

// goesOn demands that a file is sound and takes updates.
func goesOn(ctx context.Context, path string) error {
	if err := checkClean(ctx, path); err != nil {
		return err
	}
	db, err := bolt.Open(path, cutOptions)
	if err != nil {
		return err
	}
	head := db.State().Head
	got, err := db.Append(ctx, []thing.Update{cutUpdate(1)})
	if err == nil && got[0].Seq != head+1 {
		err = fmt.Errorf("seq %d after %d", got[0].Seq, head)
	}
	return errors.Join(err, db.Close())
}

// cutCompact demands the whole old file or the whole new one, with who may read
// it, and that compacting can be done again.
func cutCompact(ctx context.Context, c *cutLeft) (done bool, err error) {
	info, err := os.Stat(c.path)
	if err != nil {
		return false, err
	}
	if info.Mode().Perm() != cutMode {
		return false, fmt.Errorf("the permissions are %v", info.Mode())
	}
	want, err := readContents(ctx, c.before)
	if err != nil {
		return false, err
	}
	same := func() error {
		got, err := readContents(ctx, c.path)
		if err == nil && got != want {
			err = fmt.Errorf("it has\n%+v\nwant\n%+v", got, want)
		}
		return err
	}
	if err := same(); err != nil {
		return false, err
	}
	if done, err = cutWritten(ctx, c); err != nil {
		return false, err
	}
	if _, err := bolt.Compact(ctx, c.path, nil); err != nil {
		return done, fmt.Errorf("again: %w", err)
	}
	if _, err := os.Stat(c.path + ".compact"); !errors.Is(err, fs.ErrNotExist) {
		return done, fmt.Errorf("a file that was left over is there yet: %w", err)
	}
	return done, same()
}

// cutWritten demands the file as the command left it, byte for byte, or as it
// was before if that was not said to be done.
func cutWritten(ctx context.Context, c *cutLeft) (done bool, err error) {
	got, err := readIfThere(c.path)
	if err != nil {
		return false, err
	}
	after, err := os.ReadFile(c.after)
	if err != nil {
		return false, err
	}
	if !bytes.Equal(got, after) {
		if c.told != nil {
			return false, fmt.Errorf("it was said to be done, and is not")
		}
		before, err := readIfThere(c.before)
		if err == nil && ((got == nil) != (before == nil) || !bytes.Equal(got, before)) {
			err = fmt.Errorf("it is neither what was there nor what was written")
		}
		return false, err
	}
	if strings.HasSuffix(c.path, ".db") {
		err = checkClean(ctx, c.path)
	}
	return true, err
}

// readIfThere gives nil for a file that is not there.
func readIfThere(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// cutNewEpoch demands the old epoch or another, and nothing else of it changed.
func cutNewEpoch(ctx context.Context, c *cutLeft) (done bool, err error) {
	want, err := readContents(ctx, c.before)
	if err != nil {
		return false, err
	}
	got, err := readContents(ctx, c.path)
	if err != nil {
		return false, err
	}
	after, err := readContents(ctx, c.after)
	if err != nil {
		return false, err
	}
	switch done = got.Epoch == after.Epoch; {
	case !done && got.Epoch != want.Epoch:
		return false, fmt.Errorf("the epoch is %s, neither %s nor %s", got.Epoch, want.Epoch, after.Epoch)
	case !done && c.told != nil, done && c.told != nil && c.told[1] != got.Epoch:
		return done, fmt.Errorf("the epoch is %s, and %q was said", got.Epoch, c.told)
	}
	if got.Epoch = want.Epoch; got != want {
		return done, fmt.Errorf("it has\n%+v\nwant\n%+v", got, want)
	}
	return done, goesOn(ctx, c.path)
}

// cutImport demands all that was there, and of what was imported what was said
// and the first so many.
func cutImport(ctx context.Context, c *cutLeft) (done bool, err error) {
	there, told := uint64(cutPlain), uint64(0)
	if _, err := os.Stat(c.before); err != nil {
		there = 0
	}
	if c.told != nil {
		if told, err = strconv.ParseUint(strings.ReplaceAll(c.told[1], ",", ""), 10, 64); err != nil {
			return false, err
		}
		if told == 0 || !c.exists {
			return false, fmt.Errorf("%d were said to be imported, the file is there: %v", told, c.exists)
		}
	}
	if !c.exists && there == 0 {
		return false, nil
	}
	db, err := bolt.Open(c.path, bolt.Options{})
	if err != nil {
		return false, err
	}
	n := uint64(0)
	err = eachKept(ctx, db, func(u *thing.Update) error {
		n++
		want := cutUpdate(int(n) - 1)
		if there == 0 {
			want = cutUpdate(int(n) - 1 + cutPlain)
		}
		if u.Seq != n || u.Name != want.Name || u.TS != want.TS || u.Received != want.Received || !equalJSON(u.Data, want.Data) || !equalJSON(u.Doc, want.Doc) {
			return fmt.Errorf("update %d is seq %d, %.60q, want %.60q", n, u.Seq, u.Data, want.Data)
		}
		return nil
	})
	state := db.State()
	if err = errors.Join(err, db.Close()); err != nil {
		return false, err
	}
	if n < there+told || n != state.Head {
		return false, fmt.Errorf("%d updates are there of head %d; there were %d, and %d were said to be imported", n, state.Head, there, told)
	}
	return n > there, goesOn(ctx, c.path)
}

// equalJSON compares what may be written with spaces.
func equalJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	return errors.Join(json.Compact(&x, a), json.Compact(&y, b)) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
