//go:build proof

package proof

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/store/bolt"
	"tbhist/thing"
)

// cutsInCI is how many power cuts are tried unless TBHIST_CUTS says another
// number.
const cutsInCI = 40

func cutsWanted() int {
	if n, err := strconv.Atoi(os.Getenv("TBHIST_CUTS")); err == nil {
		return n
	}
	return cutsInCI
}

// cutSeed is of what is chosen at random.
func cutSeed() uint64 {
	if s, err := strconv.ParseUint(os.Getenv("TBHIST_CUTS_SEED"), 10, 64); err == nil {
		return s
	}
	return uint64(time.Now().UnixNano())
}

// A history is what was published, whenever the power is cut: of the writes
// since the last sync any may be on disk or not, torn at 512 bytes.
func TestPowerCut(t *testing.T) {
	cuts := cutsWanted()
	for _, way := range []struct {
		name   string
		inject []string
		env    []string
	}{
		{name: "healthy"},
		// Now and then a sync fails: the first of a commit, the second, or that
		// of putting the older meta page back.
		{name: "failing syncs", inject: []string{"-e", "inject=fdatasync,fsync:error=EIO:when=9+7"}},
		{name: "failing writes", inject: []string{"-e", "inject=pwrite64:error=EIO:when=100+83"}},
		// What is committed after a failure is another batch.
		{
			name: "giving up", env: []string{cutHasty + "=1"},
			inject: []string{"-e", "inject=fdatasync:error=EIO:when=15+31", "-e", "inject=fsync:error=EIO:when=2+2"},
		},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), cutFile)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(cleanEnv(), append(way.env, cutFolder+"="+filepath.Dir(path))...)
			calls, ok := record(t, filepath.Dir(path), cmd, way.inject...)
			if !ok {
				log, _ := os.ReadFile(path + ".log")
				t.Fatalf("the writer gave up: %s", log)
			}
			cutAll(t, calls, (cuts+3)/4)
		})
	}
}

// cutAll tries so many power cuts at instants of the trace.
func cutAll(t *testing.T, calls []call, cuts int) {
	said := &cutSaid{kept: make(map[uint64]int), null: make(map[int]bool)}
	var total cutTotals
	cutEach(t, &folder{names: make(map[string]*disk), durable: make(map[string]*disk)}, calls, cuts, func(line string) {
		said.line(t, line)
	}, func(left string) error { return said.check(t, filepath.Join(left, cutFile), &total) })
	syncs, failed := 0, 0
	for i := range calls {
		if calls[i].kind == callSynced {
			syncs++
			if !calls[i].ok {
				failed++
			}
		}
	}
	measured(t, "%d power cuts in a run of %d calls and %d syncs, %d failed: %d updates seen before, all of them kept byte for byte, %d more that were not yet seen; no hole, no double",
		cuts, len(calls), syncs, failed, total.seen, total.unseen)
}

// cutEach cuts the power at instants of the trace of a process that began with
// the folder f: said hears what the process said before, and check looks at the
// folder that is left.
func cutEach(t *testing.T, f *folder, calls []call, cuts int, said func(line string), check func(left string) error) {
	t.Helper()
	seed := cutSeed()
	rnd := rand.New(rand.NewPCG(seed, 0))
	left := filepath.Join(t.TempDir(), "left")
	next := 0
	for i, at := range cutInstants(rnd, calls, cuts) {
		for ; next < at; next++ {
			if err := f.apply(&calls[next]); err != nil {
				t.Fatal(err)
			}
			if calls[next].kind == callSaid {
				said(string(calls[next].data))
			}
		}
		if kept := os.Getenv("TBHIST_CUTS_KEEP"); kept != "" {
			left = filepath.Join(kept, fmt.Sprintf("cut-%d-%d-%d", seed, at, i))
		}
		f.leave(t, rnd, left)
		if err := check(left); err != nil {
			t.Errorf("power cut before call %d of %d, seed %d: %+v", at, len(calls), seed, err)
		} else if err := os.RemoveAll(left); err != nil {
			t.Fatal(err)
		}
	}
}

// cutInstants chooses instants in order: half of them anywhere, half where most
// is undecided, right before a sync has ended, or where most was just promised,
// right after something was said.
func cutInstants(rnd *rand.Rand, calls []call, n int) []int {
	var syncs, names []int
	for i := range calls {
		switch calls[i].kind {
		case callSynced:
			syncs = append(syncs, i)
		case callRenamed, callSaid:
			names = append(names, i+1)
		case callNamed:
			names = append(names, i)
		}
	}
	at := make([]int, n)
	for i := range at {
		switch {
		case i%4 == 1 && len(syncs) > 0:
			at[i] = syncs[rnd.IntN(len(syncs))]
		case i%4 == 3 && len(names) > 0:
			at[i] = names[rnd.IntN(len(names))]
		default:
			at[i] = rnd.IntN(len(calls) + 1)
		}
	}
	slices.Sort(at)
	return at
}

type cutTotals struct{ seen, unseen int }

// cutSaid is what the process had published.
type cutSaid struct {
	kept map[uint64]int // by seq: which update
	null map[int]bool   // published as not kept
	head uint64
}

func (s *cutSaid) line(t *testing.T, line string) {
	t.Helper()
	var first uint64
	var n, count int
	if _, err := fmt.Sscanf(line, "kept %d %d %d\n", &first, &n, &count); err == nil {
		if first != s.head+1 {
			t.Errorf("seq %d was published after %d", first, s.head)
		}
		for i := range count {
			s.kept[first+uint64(i)] = n + i
		}
		s.head = first + uint64(count) - 1
		return
	}
	if _, err := fmt.Sscanf(line, "null %d %d\n", &n, &count); err != nil {
		t.Fatalf("not understood: %q", line)
	}
	for i := range count {
		s.null[n+i] = true
	}
}

// check opens what a power cut left and holds it against what was seen.
func (s *cutSaid) check(t *testing.T, path string, total *cutTotals) error {
	db, err := bolt.Open(path, cutOptions)
	if err != nil {
		return err
	}
	head, err := s.checkHistory(t.Context(), db)
	if err == nil {
		// It goes on.
		for i := range 3 {
			var got []thing.Update
			if got, err = db.Append(t.Context(), []thing.Update{cutUpdate(cutUpdates + i)}); err != nil {
				break
			}
			if got[0].Seq != head+1+uint64(i) {
				err = fmt.Errorf("seq %d after head %d", got[0].Seq, head+uint64(i))
				break
			}
		}
	}
	if err := cmp.Or(err, db.Close()); err != nil {
		return err
	}
	total.seen += int(s.head)
	total.unseen += int(head - s.head)
	return checkClean(t.Context(), path)
}

// checkClean demands that `db check` finds nothing.
func checkClean(ctx context.Context, path string) error {
	report, err := bolt.Check(ctx, path, nil)
	if err != nil {
		return err
	}
	if len(report.Problems) > 0 {
		return fmt.Errorf("the check found: %v (and %d more)", report.Problems, report.More)
	}
	return nil
}

// checkHistory compares all that is kept, and gives its head.
func (s *cutSaid) checkHistory(ctx context.Context, db *bolt.DB) (head uint64, err error) {
	head = db.State().Head
	if head < s.head {
		return 0, fmt.Errorf("head is %d, and %d was seen", head, s.head)
	}
	if head > s.head+cutBatch {
		return 0, fmt.Errorf("head is %d, and %d was seen: more than one batch", head, s.head)
	}
	type ring struct {
		first, last uint64 // thing_seq
		newest      thing.Update
	}
	rings := make(map[thing.Name]*ring)
	var bad error
	var before uint64
	q := store.Query{Tree: true}
	for {
		page, err := db.Read(ctx, q, func(u *thing.Update) bool {
			if bad = s.checkUpdate(u, before); bad != nil {
				return false
			}
			before = u.Seq
			r := rings[u.Name]
			if r == nil {
				r = &ring{first: u.ThingSeq, last: u.ThingSeq - 1}
				rings[u.Name] = r
			}
			if u.ThingSeq != r.last+1 {
				bad = fmt.Errorf("%s: thing_seq %d after %d", u.Name, u.ThingSeq, r.last)
				return false
			}
			r.last, r.newest = u.ThingSeq, *u
			r.newest.Data = bytes.Clone(u.Data)
			return true
		})
		if err := cmp.Or(bad, err); err != nil {
			return 0, err
		}
		if page.Next == nil {
			break
		}
		q.Resume = page.Next
	}
	var all uint64
	for name, r := range rings {
		all += r.last
		first := uint64(1)
		if strings.HasPrefix(string(name), "ring.") && r.last > cutRing {
			first = r.last - cutRing + 1
		}
		if r.first != first {
			return 0, fmt.Errorf("%s is kept from %d to %d, want from %d", name, r.first, r.last, first)
		}
	}
	if all != head {
		return 0, fmt.Errorf("the Things have %d updates, and head is %d", all, head)
	}
	latest := 0
	if err := db.Latest(func(u *thing.Update, _ []byte) bool {
		latest++
		r := rings[u.Name]
		if r == nil || r.newest.Seq != u.Seq || r.newest.ThingSeq != u.ThingSeq || !bytes.Equal(r.newest.Data, u.Data) {
			bad = fmt.Errorf("%s: the directory has seq %d, which is not the last in history", u.Name, u.Seq)
		}
		return bad == nil
	}); err != nil {
		return 0, err
	}
	if bad == nil && latest != len(rings) {
		bad = fmt.Errorf("the directory has %d Things, history %d", latest, len(rings))
	}
	return head, bad
}

// checkUpdate compares one update with what was sent, and with what was seen
// of its seq.
func (s *cutSaid) checkUpdate(u *thing.Update, before uint64) error {
	if u.Seq <= before {
		return fmt.Errorf("seq %d after %d", u.Seq, before)
	}
	var data struct{ N int }
	if err := json.Unmarshal(u.Data, &data); err != nil {
		return fmt.Errorf("seq %d: %w: %.60q", u.Seq, err, u.Data)
	}
	want := cutUpdate(data.N)
	if u.Name != want.Name || !bytes.Equal(u.Data, want.Data) || !bytes.Equal(u.Doc, want.Doc) || u.TS != want.TS || u.Received != want.Received {
		return fmt.Errorf("seq %d: update %d is not what was sent: %s, %.60q, %q, %v, %v; want %s, %.60q, %q, %v, %v", u.Seq, data.N,
			u.Name, u.Data, u.Doc, u.TS, u.Received, want.Name, want.Data, want.Doc, want.TS, want.Received)
	}
	if n, seen := s.kept[u.Seq]; seen && n != data.N {
		return fmt.Errorf("seq %d was seen with update %d and is update %d", u.Seq, n, data.N)
	}
	if s.null[data.N] {
		return fmt.Errorf("seq %d: update %d was published as not kept", u.Seq, data.N)
	}
	return nil
}
