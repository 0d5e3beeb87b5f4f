package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

// flipsRounds is how many damaged files `go test` opens; TBHIST_FLIPS says
// another number, and `make flips` 2,000. TBHIST_FLIPS_SEED makes them the
// same again, round N of any run is `-run TestFlips/N`, and TBHIST_FLIPS_KEEP
// names a directory for the damaged files of rounds that fail.
const (
	flipsRounds = 60
	flipsSeed   = 20261122
)

// flipsFile is a history to damage, and everything that was ever committed to
// it.
type flipsFile struct {
	path  string
	raw   []byte
	rules []store.Rule
	now   thing.Micros
	model map[uint64]thing.Update // by seq
	// kept is what a read of everything answers, by seq.
	kept map[uint64]bool
	head uint64
	// owners are the updates whose bytes, or those of their Thing's name, are on
	// a page.
	owners map[uint64]map[uint64]bool
	places map[uint64]string // a page's bucket
	inUse  []uint64          // pages, in order
	root   []uint64          // pages without which nothing can be told
	list   uint64            // the page of the freelist
	usage  map[thing.Name]store.ThingUsage
	// indexTouched tells that a page of the index is damaged.
	indexTouched bool
}

func told1(u *thing.Update) string {
	return fmt.Sprintf("%s %d %d %v %s %s", u.Name, u.ThingSeq, u.Received, u.TS, u.Doc, u.Data)
}

// flipsNow is the clock of all of it.
const flipsNow = thing.Micros(1.8e15)

func (f *flipsFile) options(t *testing.T, d *damageCount) Options {
	return Options{
		Rules: f.rules, MaxDB: MinMaxDB, TrustClock: true, Grace: time.Minute, readBudget: 64 << 10,
		Now: func() time.Time { return f.now.Time() }, Logger: slog.New(d),
	}
}

// damageCount counts what is said to be damaged.
type damageCount struct {
	n    atomic.Int64
	said atomic.Pointer[string]
}

func (d *damageCount) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (d *damageCount) WithAttrs([]slog.Attr) slog.Handler           { return d }
func (d *damageCount) WithGroup(string) slog.Handler                { return d }
func (d *damageCount) Handle(_ context.Context, r slog.Record) error {
	d.n.Add(1)
	r.Attrs(func(a slog.Attr) bool {
		s := r.Message + ": " + a.Value.String()
		d.said.CompareAndSwap(nil, &s)
		return true
	})
	return nil
}

func (d *damageCount) first() string {
	if s := d.said.Load(); s != nil {
		return *s
	}
	return "nothing"
}

// newFlipsFile makes the file: several segments, a checkpoint, segments and
// log behind it, limits of all sorts.
func newFlipsFile(t *testing.T) *flipsFile {
	f := &flipsFile{
		path: filepath.Join(t.TempDir(), "history.db"), now: flipsNow, model: make(map[uint64]thing.Update),
		rules: []store.Rule{
			{Prefix: "count", Limit: store.Limit{Count: 40}},
			{Prefix: "bytes", Limit: store.Limit{Bytes: 3000}},
			{Prefix: "aged", Limit: store.Limit{Age: 30 * time.Second}},
		},
	}
	db, err := Open(f.path, f.options(t, &damageCount{}))
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(7, 8))
	db.maintaining.Lock()
	for sitting := range 6 {
		for range 12 {
			f.commit(t, db, rnd, 1+rnd.IntN(130))
		}
		if _, err := db.seal(); err != nil {
			t.Fatal(err)
		}
		if sitting == 3 {
			if err := errors.Join(db.ageOut(), db.saveAged(), db.checkpoint()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 20 {
		f.commit(t, db, rnd, 1+rnd.IntN(60))
	}
	f.head = db.State().Head
	f.raw, err = os.ReadFile(f.path)
	db.maintaining.Unlock()
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.path, f.raw, 0o600); err != nil {
		t.Fatal(err)
	}
	wantSound(t, f.path, "made")
	f.survey(t)
	ro, err := OpenReadOnly(f.path, Options{Now: func() time.Time { return f.now.Time() }})
	if err != nil {
		t.Fatal(err)
	}
	f.kept, f.usage = make(map[uint64]bool), make(map[thing.Name]store.ThingUsage)
	f.read(t, ro, "the whole file", func(u *thing.Update) { f.kept[u.Seq] = true })
	if err := ro.Usage(t.Context(), func(u store.ThingUsage) bool { f.usage[u.Name] = u; return true }); err != nil {
		t.Fatal(err)
	}
	if err := ro.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d updates of %d kept, %d pages", len(f.kept), f.head, len(f.raw)/pageSize)
	return f
}

func (f *flipsFile) commit(t *testing.T, db *DB, rnd *rand.Rand, n int) {
	t.Helper()
	us := make([]thing.Update, n)
	for i := range us {
		f.now += 20_000
		us[i] = thing.Update{
			Name: thing.Name([]string{"all", "count", "bytes", "aged"}[rnd.IntN(4)] + ".n" + strconv.Itoa(rnd.IntN(9))),
			Data: fmt.Appendf(nil, `{"n":%d,"x":"%s"}`, rnd.Uint64(), strings.Repeat("ab", rnd.IntN(90))),
			TS:   f.now.Seconds() - rnd.Float64(), Received: f.now,
		}
		if i%3 == 0 {
			us[i].Doc = fmt.Appendf(nil, `"http://example.org/%d"`, rnd.IntN(5))
		}
	}
	committed, err := db.Append(t.Context(), us)
	if err != nil {
		t.Fatal(err)
	}
	for i := range committed {
		f.model[committed[i].Seq] = committed[i]
	}
}

// survey finds out what is on which page.
func (f *flipsFile) survey(t *testing.T) {
	p, err := openPages(bytes.NewReader(f.raw))
	if err != nil {
		t.Fatal(err)
	}
	f.owners, f.places = make(map[uint64]map[uint64]bool), make(map[uint64]string)
	codecs, err := newCodecs()
	if err != nil {
		t.Fatal(err)
	}
	defer codecs.close()
	ro, err := OpenReadOnly(f.path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ro.Close() }()
	blockOf := make(map[string][]uint64) // seqs by key
	if err := ro.db.view(func(s *snapshot) error {
		for _, seg := range s.segs {
			for _, b := range s.blocksOf(seg, nil) {
				for _, e := range s.blockAt(b) {
					k := "blocks" + string(subKey(seg.first, uint32(b.no)))
					blockOf[k] = append(blockOf[k], e.seq)
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, rec := range ro.db.records {
		for seq := rec.first; seq <= rec.last; seq++ {
			k := "log" + string(seqKey(rec.first))
			blockOf[k] = append(blockOf[k], seq)
		}
	}
	s, err := takeSurvey(p, true, nil)
	if err != nil || !s.whole() {
		t.Fatal(err, s.said())
	}
	p.used = newBitset(p.meta.high)
	for id := uint64(2); id < p.meta.high; id++ {
		if !p.free.has(id) {
			f.inUse = append(f.inUse, id)
		}
	}
	f.root, f.list = []uint64{p.meta.root}, p.meta.freelist
	if _, err = takeSurvey(p, true, func(tree int, _, _ []byte, id uint64, es []element) {
		name := s.found[tree].name
		own := make(map[uint64]bool)
		for i := range es {
			for _, seq := range blockOf[name+string(es[i].key[:max(0, len(es[i].key)-2)])] {
				own[seq] = true
			}
		}
		pg, _ := p.at(id, nil)
		for over := id; over <= id+pg.overflow(); over++ {
			f.owners[over], f.places[over] = own, name
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// read reads everything, in order; each update must have been committed.
func (f *flipsFile) read(t *testing.T, r reads, when string, got func(*thing.Update)) {
	t.Helper()
	f.ask(t, r, store.Query{Tree: true}, when, got)
}

func (f *flipsFile) ask(t *testing.T, r reads, q store.Query, when string, got func(*thing.Update)) {
	t.Helper()
	last := uint64(0)
	for pages := 0; ; pages++ {
		page, err := r.Read(t.Context(), q, func(u *thing.Update) bool {
			if u.Seq <= last {
				t.Errorf("%s: seq %d behind %d", when, u.Seq, last)
			}
			last = u.Seq
			f.known(t, u, when)
			if got != nil {
				got(u)
			}
			return true
		})
		if err != nil {
			t.Errorf("%s: %+v: %v", when, q, err)
			return
		}
		if q.Resume = page.Next; page.Next == nil {
			return
		}
		if pages > 10_000 {
			t.Fatalf("%s: %+v has no end", when, q)
		}
	}
}

// known checks that an update was committed. The name of one whose name is
// damaged says so, and a damaged documentation URL is none.
func (f *flipsFile) known(t *testing.T, u *thing.Update, when string) {
	t.Helper()
	want, ok := f.model[u.Seq]
	if !ok {
		t.Errorf("%s: seq %d was never committed: %s", when, u.Seq, told1(u))
		return
	}
	if (u.Name != want.Name && !strings.HasPrefix(string(u.Name), "damaged.t")) ||
		u.ThingSeq != want.ThingSeq || u.Received != want.Received || u.TS != want.TS ||
		!bytes.Equal(u.Data, want.Data) || (u.Doc != nil && !bytes.Equal(u.Doc, want.Doc)) {
		t.Errorf("%s: seq %d is\n%s\nand was\n%s", when, u.Seq, told1(u), told1(&want))
	}
}

// A damaged file is opened with what is whole of it, or refused and left
// alone. Whatever it answers was committed; what is gone was on a damaged page,
// and is reported. It takes updates as before.
func TestFlips(t *testing.T) {
	t.Parallel()
	rounds, seed := flipsRounds, uint64(flipsSeed)
	if s := os.Getenv("TBHIST_FLIPS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		rounds = n
	}
	if s := os.Getenv("TBHIST_FLIPS_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("%d rounds, seed %d", rounds, seed)
	f := newFlipsFile(t)
	var count flipsCount
	for round := range rounds {
		t.Run(strconv.Itoa(round), func(t *testing.T) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				// Writing costs the time of the disk: a short run does it now and then.
				f.round(t, rand.New(rand.NewPCG(seed, uint64(round))), &count, rounds > flipsRounds || round%4 == 0)
			}()
			select {
			case <-done:
			case <-time.After(2 * time.Minute):
				stacks := make([]byte, 1<<20)
				panic(fmt.Sprintf("it hangs\n%s", stacks[:runtime.Stack(stacks, true)]))
			}
		})
	}
	t.Logf("%+v", count)
}

// flipsCount is how the rounds ended.
type flipsCount struct{ Refused, Whole, Damaged, Lost int }

func (f *flipsFile) round(t *testing.T, rnd *rand.Rand, count *flipsCount, writes bool) {
	kind := damageKinds[rnd.IntN(len(damageKinds))]
	raw, touched := kind.do(f, bytes.Clone(f.raw), rnd)
	path := filepath.Join(t.TempDir(), "history.db")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Error(err)
		return
	}
	defer func() {
		if to := os.Getenv("TBHIST_FLIPS_KEEP"); to != "" && t.Failed() {
			kept := filepath.Join(to, filepath.Base(t.Name())+".db")
			if err := os.WriteFile(kept, raw, 0o600); err != nil {
				t.Error(err)
			}
			t.Logf("the damaged file is kept in %s", kept)
		}
	}()
	for _, id := range touched[:min(len(touched), 5)] {
		t.Logf("%s: page %d, %s", kind.name, id, f.places[id])
	}
	g := *f
	g.model = maps.Clone(f.model)
	for _, id := range touched {
		g.indexTouched = g.indexTouched || f.places[id] == string(bucketIndex)
	}
	report, checkErr := Check(t.Context(), path, nil)
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, raw) {
		t.Error("Check changed the file")
	}
	g.readOnly(t, path)

	said := &damageCount{}
	db, err := Open(path, f.options(t, said))
	if err != nil {
		count.Refused++
		t.Logf("refused: %v", err)
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, raw) {
			t.Error("a refused file was changed")
		}
		if free, err := isFree(path); err != nil || !free {
			t.Errorf("a lock was left: %v", err)
		}
		if checkErr == nil && len(report.Problems) == 0 {
			t.Errorf("it is refused (%v), and Check found nothing", err)
		}
		return
	}
	kept := make(map[uint64]bool)
	g.read(t, db, "damaged", func(u *thing.Update) { kept[u.Seq] = true })
	g.everything(t, db, "damaged")
	lost, unexpected := f.lost(kept, touched)
	metaTouched := slices.Contains(touched, 0) || slices.Contains(touched, 1)
	switch {
	case said.n.Load() == 0 && lost > 0:
		t.Errorf("%d updates are gone, and nothing is said of it", lost)
	case unexpected != nil && !metaTouched && kind.name != "cut off":
		t.Errorf("%d updates are gone that were on no damaged page, such as %d; said is %s", len(unexpected), unexpected[0], said.first())
		of := make(map[string]int)
		for _, seq := range unexpected {
			of[string(f.model[seq].Name)]++
		}
		t.Logf("of %v", of)
	case checkErr != nil:
		t.Errorf("it is opened, and Check says %v", checkErr)
	case said.n.Load() > 0 && len(report.Problems) == 0:
		t.Errorf("Check found nothing, and Open did: %s", said.first())
	case len(report.Problems) == 0 && !maps.Equal(kept, f.kept):
		t.Errorf("Check found nothing, and an answer is another (%d updates, were %d)", len(kept), len(f.kept))
	}
	switch {
	case lost > 0:
		count.Lost++
	case said.n.Load() > 0:
		count.Damaged++
	default:
		count.Whole++
	}
	if !writes {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		return
	}
	head := db.State().Head
	if metaTouched {
		for seq := head + 1; seq <= f.head; seq++ {
			delete(g.model, seq) // the newest commit is gone
		}
	} else if head < f.head {
		t.Errorf("head %d was %d", head, f.head)
	}
	for range 3 {
		g.commit(t, db, rnd, 1+rnd.IntN(200))
	}
	after := make(map[uint64]bool)
	g.read(t, db, "after Append", func(u *thing.Update) { after[u.Seq] = true })
	if err := db.Maintain(); err != nil {
		t.Errorf("Maintain: %v", err)
	}
	g.commit(t, db, rnd, 50)
	last := make(map[uint64]bool)
	g.read(t, db, "after Maintain", func(u *thing.Update) { last[u.Seq] = true })
	g.still(t, after, last, "after Maintain")
	if err := db.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	db, err = Open(path, f.options(t, &damageCount{}))
	if err != nil {
		t.Errorf("it cannot be opened again: %v", err)
		return
	}
	again := make(map[uint64]bool)
	g.read(t, db, "opened again", func(u *thing.Update) { again[u.Seq] = true })
	g.still(t, last, again, "opened again")
	g.everything(t, db, "opened again")
	if err := db.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if report, err := Check(t.Context(), path, nil); err != nil {
		t.Errorf("Check of what was mended: %v", err)
	} else {
		for _, p := range report.Problems {
			if strings.Contains(p.Where, "page") {
				t.Errorf("a page is still damaged: %+v", p)
			}
		}
	}
}

// still checks that what one answer had of Things without a limit the next has
// too.
func (f *flipsFile) still(t *testing.T, was, is map[uint64]bool, when string) {
	t.Helper()
	for seq := range was {
		if f.model[seq].Name.Under("all") && !is[seq] {
			t.Errorf("%s: seq %d is gone", when, seq)
			return
		}
	}
}

// lost counts what is not there any more, and gives what was on no damaged
// page.
func (f *flipsFile) lost(kept map[uint64]bool, touched []uint64) (n int, unexpected []uint64) {
	for seq := range f.kept {
		if kept[seq] {
			continue
		}
		n++
		expected := false
		for _, id := range touched {
			expected = expected || f.owners[id][seq]
		}
		// Where sizes are gone, limits by bytes go by the mean of the others.
		if !expected && !f.model[seq].Name.Under("bytes") {
			unexpected = append(unexpected, seq)
		}
	}
	slices.Sort(unexpected)
	return n, unexpected
}

// readOnly reads the file without opening it for serving.
func (f *flipsFile) readOnly(t *testing.T, path string) {
	before, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	ro, err := OpenReadOnly(path, Options{Now: func() time.Time { return f.now.Time() }, readBudget: 64 << 10})
	if err == nil {
		f.read(t, ro, "read-only", nil)
		if err := ro.Close(); err != nil {
			t.Error(err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Error("reading changed the file")
	}
}

// everything asks in all ways; whatever is answered was committed.
func (f *flipsFile) everything(t *testing.T, db *DB, when string) {
	t.Helper()
	some, later := flipsNow+10e6, flipsNow+40e6
	all, one := make(map[uint64]bool), make(map[uint64]bool)
	f.read(t, db, when, func(u *thing.Update) {
		if u.Name == "all.n3" {
			all[u.Seq] = true
		}
	})
	f.ask(t, db, store.Query{Name: "all.n3"}, when, func(u *thing.Update) { one[u.Seq] = true })
	// On a damaged page of the index a key may name another Thing, which nothing
	// tells but reading all of it.
	if !maps.Equal(all, one) && !f.indexTouched {
		t.Errorf("%s: a Thing has %d updates, and %d of all are its own", when, len(one), len(all))
	}
	for _, q := range []store.Query{
		{Name: "count", Tree: true},
		{Tree: true, Since: &some, Until: &later},
		{Name: "all", Tree: true, By: store.ByTS, Since: &some},
		{Tree: true, Last: 3},
		{Name: "bytes", Tree: true, Last: 2, Until: &later},
		{Name: "aged.n1", After: f.head / 3, UpTo: f.head / 2, Limit: 20},
	} {
		f.ask(t, db, q, when, nil)
	}
	if err := db.Latest(func(u *thing.Update, _ []byte) bool { f.known(t, u, when+", latest"); return true }); err != nil {
		t.Errorf("%s: Latest: %v", when, err)
	}
	for _, at := range []thing.Micros{some, later, f.now} {
		if _, err := db.AsOf(t.Context(), store.AsOf{Tree: true, At: at}, func(e *store.PastEntry) bool {
			if !e.Unknown {
				f.known(t, &e.Update, when+", as of")
			}
			return true
		}); err != nil {
			t.Errorf("%s: AsOf: %v", when, err)
		}
	}
	if err := db.Kept(t.Context(), []thing.Name{"all.n1", "bytes.n2", "none"}, func(int, uint64, thing.Micros) {}); err != nil {
		t.Errorf("%s: Kept: %v", when, err)
	}
	if err := db.Usage(t.Context(), func(store.ThingUsage) bool { return true }); err != nil {
		t.Errorf("%s: Usage: %v", when, err)
	}
	db.State()
	db.Stats()
}

// isFree tells whether nobody has the lock on a file.
func isFree(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	return lock(f, true)
}
