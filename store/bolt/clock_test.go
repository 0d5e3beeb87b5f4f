package bolt

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

// clockStart is a time of day that is right.
var clockStart = time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)

// Which instants the clock is believed at, by what it showed before.
func TestClockWatch(t *testing.T) {
	type look struct {
		mono, wall time.Duration // since the start
		trusted    bool
	}
	const min = time.Minute
	tenYears := 10 * 365 * 24 * time.Hour
	for name, looks := range map[string][]look{
		"steady": {{0, 0, false}, {9 * min, 9 * min, false}, {10 * min, 10 * min, true}, {100 * min, 100 * min, true}},
		"ten years on and back": {
			{0, 0, false},
			{20 * min, 20 * min, true},
			{21 * min, 21*min + tenYears, false},
			{80 * min, 80*min + tenYears, false},
			{81 * min, 81*min + tenYears, true},
			{82 * min, 82 * min, false},
			{141 * min, 141 * min, false},
			{142 * min, 142 * min, true},
		},
		"back while on": {{0, 0, false}, {min, min + tenYears, false}, {50 * min, 50 * min, false}, {109 * min, 109 * min, false}, {110 * min, 110 * min, true}},
		"set while new": {{0, -50 * tenYears, false}, {9 * min, 9 * min, false}, {11 * min, 11 * min, false}, {69 * min, 69 * min, true}},
		"slewed":        {{0, 0, false}, {10 * min, 10*min + 59*time.Second, true}, {11 * min, 11 * min, true}},
		"asleep":        {{0, 0, false}, {10 * min, 10 * min, true}, {11 * min, 8 * 60 * min, false}, {71 * min, 9 * 60 * min, true}},
	} {
		t.Run(name, func(t *testing.T) {
			var c clock
			began := time.Now()
			for _, l := range looks {
				if got := c.watch(clockStart.Add(l.wall), false, began.Add(l.mono)); got != l.trusted {
					t.Errorf("after %v, at %v: trusted is %v", l.mono, l.wall, got)
				}
			}
		})
	}
}

// wrongTimes are what a clock that is not set shows.
var wrongTimes = map[string]func(time.Time) time.Time{
	"ten years on":   func(t time.Time) time.Time { return t.AddDate(10, 0, 0) },
	"ten years back": func(t time.Time) time.Time { return t.AddDate(-10, 0, 0) },
	"1970":           func(t time.Time) time.Time { return time.Unix(0, 0).Add(t.Sub(clockStart)) },
	"local time":     func(t time.Time) time.Time { return t.Add(13 * time.Hour) },
}

// timeline is a history that was fed by a clock that steps.
type timeline struct {
	t     *testing.T
	db    *DB
	path  string
	rnd   *rand.Rand
	even  time.Time                 // goes on evenly
	show  func(time.Time) time.Time // what the clock shows of it
	all   []thing.Update            // in the order of seq
	heads map[thing.Name]uint64
}

func newTimeline(t *testing.T, change ...func(*Options)) *timeline {
	l := &timeline{
		t: t, path: filepath.Join(t.TempDir(), "history.db"), rnd: rand.New(rand.NewPCG(1, 2)),
		even: clockStart, heads: map[thing.Name]uint64{},
	}
	l.right()
	l.open(change...)
	t.Cleanup(func() { mustClose(t, l.db) })
	return l
}

func (l *timeline) open(change ...func(*Options)) {
	l.db = openTest(l.t, l.path, append([]func(*Options){func(o *Options) {
		o.Rules = []store.Rule{{Limit: store.Limit{Age: time.Hour}}}
		o.lazyAge, o.Now = true, l.now
	}}, change...)...)
}

func (l *timeline) now() time.Time { return l.show(l.even) }
func (l *timeline) right()         { l.show = func(t time.Time) time.Time { return t } }

// feed appends n updates in the course of a span of time. Their sources do
// not know the time, each in its own way.
func (l *timeline) feed(n int, span time.Duration) {
	l.t.Helper()
	for i := range n {
		l.even = l.even.Add(span / time.Duration(n))
		ts := []float64{float64(i), thing.MicrosOf(l.now()).Seconds(), float64(l.even.Add(13 * time.Hour).Unix())}[l.rnd.IntN(3)]
		u := thing.Update{
			Name: thing.Name("abc"[i%3:][:1]), Data: fmt.Appendf(nil, "%d", len(l.all)), TS: ts, Received: thing.MicrosOf(l.now()),
		}
		if _, err := l.db.Append(l.t.Context(), []thing.Update{u}); err != nil {
			l.t.Fatal(err)
		}
		l.heads[u.Name]++
		u.Seq, u.ThingSeq = uint64(len(l.all)+1), l.heads[u.Name]
		l.all = append(l.all, u)
	}
}

func (l *timeline) maintain() {
	l.t.Helper()
	if err := l.db.Maintain(); err != nil {
		l.t.Fatal(err)
	}
}

// check asks for times all over the history: answers are what a look at each
// update would give, in the order of seq.
func (l *timeline) check() {
	l.t.Helper()
	if got := l.db.State(); got.Updates != uint64(len(l.all)) || got.Head != got.Updates {
		l.t.Errorf("%+v, want all %d updates", got, len(l.all))
	}
	for range 200 {
		at := func() *thing.Micros {
			u := l.all[l.rnd.IntN(len(l.all))]
			m := u.Received + thing.Micros(l.rnd.IntN(3)-1)
			if l.rnd.IntN(2) == 0 {
				m = thing.MicrosOfSeconds(u.TS)
			}
			return &m
		}
		q := store.Query{Tree: true, Since: at(), By: store.By(l.rnd.IntN(2))}
		if l.rnd.IntN(2) == 0 {
			q.Until = at()
		}
		var want []uint64
		for _, u := range l.all {
			m := u.Received
			if q.By == store.ByTS {
				m = thing.MicrosOfSeconds(u.TS)
			}
			if m >= *q.Since && (q.Until == nil || m < *q.Until) {
				want = append(want, u.Seq)
			}
		}
		var got []uint64
		page, err := l.db.Read(l.t.Context(), q, func(u *thing.Update) bool { got = append(got, u.Seq); return true })
		if err != nil || page.Next != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			l.t.Fatalf("since %v until %v by %v: %d updates, %v; want %d", q.Since, q.Until, q.By, len(got), err, len(want))
		}
	}
}

// A clock that is wrong, and one that was set right, evict nothing by age,
// and all questions about times are answered as the clock was.
func TestClockThatStepsEvictsNothing(t *testing.T) {
	for name, wrong := range wrongTimes {
		t.Run(name, func(t *testing.T) {
			l := newTimeline(t)
			l.feed(60, 2*time.Hour)
			l.show = wrong
			l.feed(60, 20*time.Minute)
			l.maintain()
			l.right()
			l.feed(60, 20*time.Minute)
			l.maintain()
			l.feed(20, time.Minute)
			l.check()
			mustClose(t, l.db)
			l.open()
			l.maintain()
			l.check()
			_, err := l.db.AsOf(t.Context(), store.AsOf{Tree: true, At: math.MaxInt64}, func(e *store.PastEntry) bool {
				last := l.all[len(l.all)-1]
				for i := len(l.all) - 1; last.Name != e.Update.Name; i-- {
					last = l.all[i]
				}
				if e.Update.Seq != last.Seq {
					t.Errorf("the last of %s is seq %d, want %d", e.Update.Name, e.Update.Seq, last.Seq)
				}
				return true
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// What was received while the clock was wrong does not keep what came after
// it, or before, from growing old.
func TestAgeAfterAWrongClock(t *testing.T) {
	for name, wrong := range wrongTimes {
		for where, settle := range map[string]func(*timeline){"in segments": (*timeline).maintain, "in the log": func(*timeline) {}} {
			t.Run(name+", "+where, func(t *testing.T) {
				l := newTimeline(t, func(o *Options) { o.TrustClock = true })
				keeps := func(want int) {
					t.Helper()
					settle(l)
					upkeep(t, l.db, l.db.ageOut)
					if got := l.db.State().Updates; got != uint64(want) {
						t.Errorf("%d updates are kept, want %d", got, want)
					}
				}
				l.feed(30, 10*time.Minute)
				settle(l)
				l.show = wrong // not for long enough to be looked at
				l.feed(30, 10*time.Minute)
				settleLater := l.even
				l.right()
				l.feed(30, 10*time.Minute)
				if name != "local time" { // that is too little to tell
					keeps(90)
					l.even = clockStart.Add(71 * time.Minute)
					keeps(60)
					l.even = settleLater.Add(71 * time.Minute)
					keeps(3)
					return
				}
				l.even = l.even.Add(14 * time.Hour)
				keeps(3)
			})
		}
	}
}

// While the clock is behind, nothing of a history can go, and no look at all
// of it is taken to find that.
func TestAgeBehindReadsNothing(t *testing.T) {
	l := newTimeline(t, func(o *Options) { o.TrustClock = true })
	l.feed(3000, 10*time.Minute)
	l.maintain()
	l.feed(100, time.Minute)
	for name, wrong := range wrongTimes {
		behind := wrong(l.even)
		if behind.After(l.even) {
			continue
		}
		p := newAgePass(behind, l.db.ages())
		err := l.db.viewWith(true, func(s *snapshot) error {
			err := p.run(s)
			if s.bytes > 0 {
				t.Errorf("%s: %d bytes were read", name, s.bytes)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
