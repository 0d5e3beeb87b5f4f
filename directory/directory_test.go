package directory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tbhist/internal/wire"
	"tbhist/thing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const start = thing.Micros(1_700_000_000_000_000)

// clock is a time that tests set.
type clock struct{ now thing.Micros }

func (c *clock) time() time.Time { return c.now.Time() }

func update(name thing.Name, seq uint64, data string) thing.Update {
	return thing.Update{Name: name, Data: []byte(data), TS: start.Seconds(), Received: start, Seq: seq, ThingSeq: seq}
}

// parse reads the frames of a snapshot and checks that they belong
// together.
func parse(t testing.TB, s *Snapshot) map[thing.Name]wire.Entry {
	t.Helper()
	all := map[thing.Name]wire.Entry{}
	size := 0
	for i, f := range s.Frames {
		size += len(f)
		m, err := wire.ParseMessage(f)
		if err != nil || m.Kind != wire.KindSnapshot || m.Skipped != 0 {
			t.Fatalf("frame %d: %v %v, %d skipped: %.200s", i, m.Kind, err, m.Skipped, f)
		}
		if m.Snapshot.Seq != s.Seq || m.Snapshot.Part != i+1 || m.Snapshot.Parts != len(s.Frames) {
			t.Fatalf("frame %d of %d is part %d of %d, seq %d", i, len(s.Frames), m.Snapshot.Part, m.Snapshot.Parts, m.Snapshot.Seq)
		}
		for _, e := range m.Snapshot.Entries {
			if _, twice := all[e.Update.Name]; twice {
				t.Fatalf("%q is there twice", e.Update.Name)
			}
			all[e.Update.Name] = e
		}
	}
	if size != s.Bytes || len(all) != s.Entries {
		t.Fatalf("%d bytes and %d entries, said to be %d and %d", size, len(all), s.Bytes, s.Entries)
	}
	return all
}

func TestApply(t *testing.T) {
	d := New(Options{})
	if d.Len() != 0 || d.Known("a") {
		t.Error("not empty")
	}
	if _, ok := d.Get("a"); ok {
		t.Error("a is there")
	}
	batch := []thing.Update{update("a", 1, "1"), update("a.b", 2, `{"x":1}`), update("a", 3, `"longer than before"`)}
	batch[0].Doc = []byte(`"http://a/"`)
	batch[2].Doc = []byte(`""`)
	d.Apply(batch, 7)
	for i := range batch { // what it keeps is its own
		clear(batch[i].Data)
		clear(batch[i].Doc)
	}
	e, ok := d.Get("a")
	if !ok || string(e.Update.Data) != `"longer than before"` || string(e.Doc) != `"http://a/"` || e.Update.Seq != 3 || e.Updates != 2 || e.Source != nil || e.Sources != 0 {
		t.Errorf("a is %+v", e)
	}
	if d.Len() != 2 || !d.Known("a.b") || d.Known("") {
		t.Errorf("%d Things", d.Len())
	}
	// One that was not kept changes it, too.
	d.Apply([]thing.Update{{Name: "a", Data: []byte("null"), TS: 5, Received: start + 1e6}}, 8)
	held := e.Update.Data
	e, _ = d.Get("a")
	if e.Update.Kept() || string(e.Update.Data) != "null" || e.Update.TS != 5 || e.Updates != 3 || string(e.Doc) != `"http://a/"` {
		t.Errorf("a is %+v", e)
	}
	if e.Age(start+3e6) != 2*time.Second {
		t.Errorf("age %v", e.Age(start+3e6))
	}
	if string(held) != `"longer than before"` {
		t.Errorf("an entry given out changed to %s", held)
	}
	s := d.Snapshot(SnapshotOptions{Epoch: "ee", Now: start})
	if s.Seq != 3 || s.Position != 8 {
		t.Errorf("seq %d, position %d", s.Seq, s.Position)
	}
	if got := parse(t, s); got["a"].Update.Seq != 0 || got["a.b"].Update.Seq != 2 || len(got) != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestRestore(t *testing.T) {
	d := New(Options{})
	u := update("a", 9, "1")
	d.Restore(&u, []byte(`"d"`), 40)
	v := update("b", 5, "2")
	d.Restore(&v, nil, 1)
	clear(u.Data)
	if e, _ := d.Get("a"); string(e.Update.Data) != "1" || string(e.Doc) != `"d"` || e.Updates != 40 {
		t.Errorf("a is %+v", e)
	}
	d.Apply([]thing.Update{update("a", 10, "3")}, 1)
	if e, _ := d.Get("a"); string(e.Update.Data) != "3" || string(e.Doc) != `"d"` || e.Updates != 41 {
		t.Errorf("a is %+v", e)
	}
	if s := d.Snapshot(SnapshotOptions{}); s.Seq != 10 {
		t.Errorf("seq %d", s.Seq)
	}
	if s := d.Snapshot(SnapshotOptions{Head: 12}); s.Seq != 12 {
		t.Errorf("seq %d", s.Seq)
	}
}

func TestSources(t *testing.T) {
	c := &clock{start}
	d := New(Options{Now: c.time})
	from := func(last byte, at thing.Micros) {
		u := update("a", 0, "1")
		u.Received = at
		u.Source = &thing.Source{Addr: netip.AddrFrom4([4]byte{10, 0, 0, last}), Transport: thing.UDP}
		d.Apply([]thing.Update{u}, 1)
	}
	count := func(want int) {
		t.Helper()
		if e, _ := d.Get("a"); e.Sources != want {
			t.Errorf("%d sources, want %d", e.Sources, want)
		}
	}
	from(1, start)
	from(1, start+1)
	count(1)
	from(2, start+30*60e6)
	count(2)
	if e, _ := d.Get("a"); e.Source.Addr.String() != "10.0.0.2" || e.Update.Source != e.Source {
		t.Errorf("source %v", e.Source)
	}
	c.now = start + 60*60e6
	count(2)
	c.now += 2
	count(1)
	for i := range byte(20) {
		from(100+i, c.now)
	}
	count(8)
	from(1, c.now+1)
	count(8)
	c.now += 61 * 60e6
	count(0)
	// The same address by another way is another source.
	for tr := range thing.Transports {
		u := update("b", 0, "1")
		u.Received = c.now
		u.Source = &thing.Source{Addr: netip.IPv6Loopback(), Transport: tr}
		d.Apply([]thing.Update{u}, 2)
	}
	if e, _ := d.Get("b"); e.Sources != 2 {
		t.Errorf("%d sources", e.Sources)
	}
}

func TestWalk(t *testing.T) {
	d := New(Options{})
	names := []thing.Name{"b", "a.b", "a-b", "", "a0", "a", "a.b.c", "ab", "a.c", "a-b.c", "z"}
	for i, n := range names {
		d.Apply([]thing.Update{update(n, uint64(i+1), "1")}, uint64(i))
		if i == 4 { // the order holds also for names that come later
			d.Walk(nil, "", true, func(*Entry) bool { return true })
		}
	}
	walk := func(after *thing.Name, under thing.Name, tree bool) string {
		var got []string
		d.Walk(after, under, tree, func(e *Entry) bool {
			got = append(got, fmt.Sprintf("%q", e.Update.Name))
			return true
		})
		return strings.Join(got, " ")
	}
	name := func(n thing.Name) *thing.Name { return &n }
	for _, c := range []struct {
		after *thing.Name
		under thing.Name
		tree  bool
		want  string
	}{
		{nil, "", true, `"" "a" "a-b" "a-b.c" "a.b" "a.b.c" "a.c" "a0" "ab" "b" "z"`},
		{nil, "", false, `""`},
		{nil, "a", false, `"a"`},
		{nil, "a", true, `"a" "a.b" "a.b.c" "a.c"`},
		{nil, "a.b", true, `"a.b" "a.b.c"`},
		{nil, "c", true, ``},
		{nil, "c", false, ``},
		{name(""), "", true, `"a" "a-b" "a-b.c" "a.b" "a.b.c" "a.c" "a0" "ab" "b" "z"`},
		{name("a"), "a", true, `"a.b" "a.b.c" "a.c"`},
		{name("a-b"), "a", true, `"a.b" "a.b.c" "a.c"`},
		{name("a.b"), "a", true, `"a.b.c" "a.c"`},
		{name("a"), "a", false, ``},
		{name("a.bb"), "", true, `"a.c" "a0" "ab" "b" "z"`},
		{name("z"), "", true, ``},
	} {
		if got := walk(c.after, c.under, c.tree); got != c.want {
			t.Errorf("after %v, under %q, %v:\n%s, want\n%s", c.after, c.under, c.tree, got, c.want)
		}
	}
	n := 0
	d.Walk(nil, "", true, func(*Entry) bool { n++; return n < 3 })
	if n != 3 {
		t.Errorf("%d entries after it was to end", n)
	}
	// From within it the directory can be used.
	d.Walk(nil, "", true, func(e *Entry) bool {
		d.Apply([]thing.Update{update(e.Update.Name+"x.new", 1, "1")}, 50)
		return d.Known(e.Update.Name)
	})
	if d.Len() != 2*len(names) {
		t.Errorf("%d Things", d.Len())
	}
}

// thousands makes a directory of n Things.
func thousands(n int) *Directory {
	d := New(Options{})
	batch := make([]thing.Update, n)
	for i := range batch {
		batch[i] = update(thing.Name(fmt.Sprintf("group%d.thing%d", i%100, i)), uint64(i+1), fmt.Sprintf(`{"luminance":106.09374213,"temperature":%d.48437172}`, i))
		batch[i].Doc = []byte(`"https://spacemon.example.org/electronics"`)
	}
	d.Apply(batch, 1)
	return d
}

func TestSnapshotParts(t *testing.T) {
	d := thousands(1000)
	whole := d.Snapshot(SnapshotOptions{Epoch: "ee", Now: start})
	if len(whole.Frames) != 1 || strings.Contains(string(whole.Frames[0]), `"part"`) {
		t.Fatalf("%d frames", len(whole.Frames))
	}
	want := parse(t, whole)
	for _, most := range []int{10_000, len(whole.Frames[0]), len(whole.Frames[0]) - 1, 1} {
		s := d.Snapshot(SnapshotOptions{Epoch: "ee", Now: start, MaxPart: most})
		if got := parse(t, s); len(got) != len(want) {
			t.Errorf("%d entries in %d frames", len(got), len(s.Frames))
		}
		for i, f := range s.Frames {
			if len(f) > most && most > 1000 {
				t.Errorf("frame %d has %d bytes, %d are the most", i, len(f), most)
			}
		}
		if most == 1 && len(s.Frames) != 1000 {
			t.Errorf("%d frames", len(s.Frames))
		}
	}
	empty := New(Options{}).Snapshot(SnapshotOptions{Epoch: "ee", Now: start})
	if got := string(empty.Frames[0]); got != `{"type": "thing_snapshot", "ts": 1700000000.0, "data": {}, "seq": 0, "epoch": "ee"}` {
		t.Errorf("got %s", got)
	}
}

func TestSnapshotExpire(t *testing.T) {
	d := New(Options{})
	batch := []thing.Update{update("a", 1, "1"), update("b", 2, "1"), update("c", 3, "1")}
	batch[1].TS -= 60
	batch[2].TS -= 61
	d.Apply(batch, 1)
	if got := parse(t, d.Snapshot(SnapshotOptions{Now: start, Expire: time.Minute})); len(got) != 2 {
		t.Errorf("got %v", got)
	}
	if got := parse(t, d.Snapshot(SnapshotOptions{Now: start})); len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

// A snapshot is the directory as of one batch, whatever is written while it
// is made.
func TestSnapshotConsistent(t *testing.T) {
	const things = 300
	d := New(Options{})
	batch := make([]thing.Update, things)
	fill := func(round uint64) {
		for i := range batch {
			batch[i] = update(thing.Name(fmt.Sprintf("t%d", i)), round, fmt.Sprint(round))
		}
		// A new Thing in each round, too.
		d.Apply(append(batch, update(thing.Name(fmt.Sprintf("new%d", round)), round, fmt.Sprint(round))), round)
	}
	fill(1)
	var done sync.WaitGroup
	stop := make(chan struct{})
	done.Go(func() {
		for round := uint64(2); ; round++ {
			select {
			case <-stop:
				return
			default:
				fill(round)
			}
		}
	})
	read := make(chan *Snapshot)
	for range 2 {
		done.Go(func() {
			for range 5 {
				read <- d.Snapshot(SnapshotOptions{Now: start, MaxPart: 10_000})
			}
		})
	}
	rounds := map[uint64]bool{}
	for range 10 {
		s := <-read
		rounds[s.Position] = true
		got := parse(t, s)
		if len(got) != things+int(s.Position) || s.Seq != s.Position {
			t.Errorf("%d Things in round %d, seq %d", len(got), s.Position, s.Seq)
		}
		for name, e := range got {
			if want := fmt.Sprint(s.Position); string(e.Update.Data) != want && !strings.HasPrefix(string(name), "new") {
				t.Fatalf("%q is of round %s in a snapshot of round %s", name, e.Update.Data, want)
			}
		}
	}
	close(stop)
	done.Wait()
	if d.cut != nil {
		t.Error("a snapshot is said to be under way")
	}
	t.Logf("%d rounds seen", len(rounds))
}

// What a Thing once needed is not held for ever.
func TestMemoryShrinks(t *testing.T) {
	d := New(Options{})
	d.Apply([]thing.Update{update("a", 1, `"`+strings.Repeat("x", 1<<20)+`"`)}, 1)
	d.Apply([]thing.Update{update("a", 2, "1")}, 2)
	if c := cap(d.items["a"].data); c > 1024 {
		t.Errorf("%d bytes are held for one", c)
	}
}

func TestIndexOrder(t *testing.T) {
	d := thousands(3000)
	d.Walk(nil, "", true, func(*Entry) bool { return false })
	for i := range 500 {
		d.Apply([]thing.Update{update(thing.Name(fmt.Sprintf("group%d.late%d", i%7, i)), 1, "1")}, 2)
	}
	var names []thing.Name
	d.Walk(nil, "", true, func(e *Entry) bool { names = append(names, e.Update.Name); return true })
	if len(names) != 3500 || !slices.IsSorted(names) {
		t.Errorf("%d names, sorted: %v", len(names), slices.IsSorted(names))
	}
}

func BenchmarkApply(b *testing.B) {
	d := thousands(10_000)
	batch := make([]thing.Update, 0, 2000)
	d.Walk(nil, "", true, func(e *Entry) bool {
		batch = append(batch, update(e.Update.Name, 1, string(e.Update.Data)))
		return len(batch) < cap(batch)
	})
	b.ReportAllocs()
	for b.Loop() {
		d.Apply(batch, 1)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch)), "ns/update")
}

func BenchmarkSnapshot(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := thousands(n)
			b.ReportAllocs()
			for b.Loop() {
				d.Snapshot(SnapshotOptions{Epoch: "ee", Now: start})
			}
		})
	}
}

// How long one writer waits at most while snapshots are made.
func BenchmarkApplyBesideSnapshot(b *testing.B) {
	d := thousands(100_000)
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				d.Snapshot(SnapshotOptions{Epoch: "ee", Now: start})
			}
		}
	})
	batch := []thing.Update{update("group0.thing0", 1, "1")}
	var worst time.Duration
	for b.Loop() {
		from := time.Now()
		d.Apply(batch, 1)
		worst = max(worst, time.Since(from))
	}
	close(stop)
	done.Wait()
	b.ReportMetric(float64(worst.Microseconds()), "µs-worst")
}
