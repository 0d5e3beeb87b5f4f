package storetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

// seedVariable makes random tests repeat themselves.
const seedVariable = "STORETEST_SEED"

// newSeed chooses what a random test does, and says how to do it again.
func newSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(seedVariable); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Logf("%s=%d", seedVariable, seed)
	return seed
}

// profile is a kind of random history.
type profile struct {
	name    string
	rules   [][]store.Rule // in turn, at each reopening with others
	heavy   bool           // long data now and then
	ops     int
	longest time.Duration // then it ends early, on a slow machine
}

func profiles() []profile {
	limit := func(prefix thing.Name, count int64, age time.Duration, bytes int64) store.Rule {
		return store.Rule{Prefix: prefix, Limit: store.Limit{Count: count, Age: age, Bytes: bytes}}
	}
	all := []profile{
		{name: "unlimited", rules: [][]store.Rule{nil}, heavy: true},
		{name: "count", rules: [][]store.Rule{
			{limit("", 20, 0, 0), limit("a", 3, 0, 0), limit("a.b", 100, 0, 0)},
			{limit("", 7, 0, 0)},
			{limit("", 40, 0, 0), limit("c", 1, 0, 0)},
		}},
		{name: "bytes", rules: [][]store.Rule{
			{limit("", 0, 0, 300), limit("a", 0, 0, 5000)},
			{limit("", 0, 0, 600), limit("a.b", 0, 0, store.Unlimited)},
		}, heavy: true},
		{name: "age", rules: [][]store.Rule{
			{limit("", 0, time.Hour, 0), limit("a", 0, 10*time.Minute, 0)},
			{limit("", 0, 5*time.Hour, 0), limit("c", 0, time.Minute, 0)},
		}},
		{name: "all", rules: [][]store.Rule{
			{limit("", 50, time.Hour, 2000), limit("a", 10, 0, store.Unlimited), limit("a.b", 5, time.Minute, 0)},
			{limit("", 30, 0, 10_000), limit("a", 100, 3*time.Hour, 0)},
			nil,
		}},
	}
	for i := range all {
		all[i].ops, all[i].longest = 800, 2*time.Second
	}
	return all
}

// Random histories: whatever is written and asked in whatever order, engine
// and model agree.
func testRandom(t *testing.T, open Open) {
	seed := newSeed(t)
	for i, p := range profiles() {
		t.Run(p.name, func(t *testing.T) {
			w := &walk{
				fixture: newFixture(t, open, p.rules[0]),
				rnd:     rand.New(rand.NewPCG(seed, uint64(i))),
				profile: p,
			}
			w.run()
		})
	}
}

// walk is a random test under way.
type walk struct {
	*fixture
	profile
	rnd     *rand.Rand
	answers []*answer // not yet read to their end
	// unsettled tells that limits by age may have evicted, or may not yet:
	// answers can be compared again after Maintain.
	unsettled bool
}

var randomNames = []thing.Name{"", "a", "a.b", "a.b.c", "a-b", "ab", "b", "c", "c.d-e", "c.d_e", "z9.y.x"}

func (w *walk) run() {
	end := time.Now().Add(w.longest)
	n := 0
	for ; n < w.ops && time.Now().Before(end); n++ {
		switch p := w.rnd.IntN(100); {
		case p < 40:
			w.write()
		case p < 45:
			w.stepClock()
		case p < 50:
			w.maintain()
			w.unsettled = false
		case p < 52:
			w.turnOver()
		case p < 70:
			w.settle()
			w.begin()
		case p < 92:
			w.settle()
			w.goOn()
		case p < 96:
			w.settle()
			w.past()
		case p < 98:
			w.settle()
			w.checkLatest()
		default:
			w.settle()
			w.checkState()
			w.checkKept()
		}
	}
	w.settle()
	for len(w.answers) > 0 {
		w.goOn()
	}
	w.check()
	w.reopen()
	w.check()
	w.t.Logf("%d operations, %d updates", n, w.m.head())
}

// settle has pending evictions by age done: an engine may do them when it
// likes.
func (w *walk) settle() {
	if w.unsettled {
		w.maintain()
		w.unsettled = false
	}
}

// aged tells whether a limit by age is in force.
func (w *walk) aged() bool {
	for _, r := range w.m.rules.All() {
		if r.Limit.Age > 0 {
			return true
		}
	}
	return false
}

func (w *walk) write() {
	n := w.rnd.IntN(8)
	switch w.rnd.IntN(40) {
	case 0:
		n = 300
	case 1:
		n = 0
	}
	batch := make([]thing.Update, n)
	for i := range batch {
		batch[i] = w.randomUpdate()
	}
	w.append(batch...)
	w.unsettled = w.unsettled || w.aged()
}

func (w *walk) randomUpdate() thing.Update {
	u := w.update(w.name(), w.data())
	switch w.rnd.IntN(10) {
	case 0:
		u.Doc = []byte([]string{`""`, "0", "{}", "false", "[]"}[w.rnd.IntN(5)])
	case 1, 2:
		u.Doc = fmt.Appendf(nil, `"http://doc/%d"`, w.rnd.IntN(5))
	}
	switch w.rnd.IntN(8) {
	case 0: // a source whose clock is off
		u.TS += float64(w.rnd.IntN(7200)-3600) + 0.5
	case 1:
		u.TS = w.rnd.NormFloat64() * 1e9
	case 2:
		u.TS = []float64{0, math.Copysign(0, -1), 1, 5e-324, 1e11, -1e11}[w.rnd.IntN(6)]
	case 3: // it waited on its way in
		u.Received -= thing.Micros(w.rnd.Int64N(3 * 3600 * 1e6))
	}
	return u
}

// name prefers some Things, so that there are busy ones and quiet ones.
func (w *walk) name() thing.Name {
	return randomNames[min(w.rnd.IntN(len(randomNames)), w.rnd.IntN(len(randomNames)))]
}

func (w *walk) data() string {
	switch w.rnd.IntN(12) {
	case 0:
		return "null"
	case 1:
		return strconv.FormatFloat(w.rnd.NormFloat64(), 'g', -1, 64)
	case 2:
		return `"` + strings.Repeat("long ", w.rnd.IntN(60)) + `"`
	case 3:
		if w.heavy && w.rnd.IntN(4) == 0 {
			var b strings.Builder
			for range w.rnd.IntN(9000) {
				b.WriteByte(byte('a' + w.rnd.IntN(26)))
			}
			return `"` + b.String() + `"`
		}
	}
	return fmt.Sprintf(`{"n":%d,"v":%d}`, w.m.head(), w.rnd.IntN(1000))
}

// stepClock moves the clock, mostly on. Before it steps back, what an
// engine may have evicted under the later time is evicted.
func (w *walk) stepClock() {
	d := time.Duration(w.rnd.Int64N(int64(20 * time.Minute)))
	switch w.rnd.IntN(6) {
	case 0:
		w.settle()
		d = -d * 6
	case 1:
		d *= 20
	}
	w.did("clock steps by %v", d)
	w.clock.step(d)
	w.unsettled = w.unsettled || w.aged()
}

// turnOver opens the history anew, one time of three under other rules.
func (w *walk) turnOver() {
	w.settle()
	if w.rnd.IntN(3) > 0 {
		w.reopen()
		return
	}
	w.reopenWith(w.rules[w.rnd.IntN(len(w.rules))]...)
	w.unsettled = w.aged()
}

// begin asks something new, and goes on with it at once or later.
func (w *walk) begin() {
	q := w.query()
	a := w.ask(q)
	w.did("ask %s", describe(q))
	a.page(w.cut())
	for w.rnd.IntN(3) > 0 && !a.done {
		a.page(w.cut())
	}
	if !a.done {
		w.answers = append(w.answers, a)
	}
}

// goOn reads a page more of an answer.
func (w *walk) goOn() {
	if len(w.answers) == 0 {
		return
	}
	i := w.rnd.IntN(len(w.answers))
	a := w.answers[i]
	w.did("go on with %s after %d", describe(a.q.Query), a.last)
	a.page(w.cut())
	if a.done {
		w.answers = append(w.answers[:i], w.answers[i+1:]...)
	}
}

func (w *walk) cut() int {
	switch w.rnd.IntN(4) {
	case 0:
		return w.rnd.IntN(4)
	case 1:
		return whole
	}
	return w.rnd.IntN(100)
}

func (w *walk) query() store.Query {
	r := w.rnd
	one := func(n int) bool { return r.IntN(n) == 0 }
	q := store.Query{Tree: !one(4)}
	if !one(3) {
		q.Name = append(randomNames, "x", "c.d")[r.IntN(len(randomNames)+2)]
	}
	if one(6) {
		mask := r.IntN(1 << 7)
		q.Match = func(n thing.Name) bool { return mask>>(len(n)%7)&1 == 1 }
	}
	head := int64(w.m.head())
	if one(3) {
		q.After = uint64(r.Int64N(head + 5))
	}
	if one(4) {
		q.UpTo = uint64(r.Int64N(head + 5))
	}
	if one(3) {
		q.By = store.By(r.IntN(2))
		if !one(3) {
			q.Since = w.instant(q.By)
		}
		if one(2) {
			q.Until = w.instant(q.By)
		}
	}
	if one(4) {
		q.Last = uint64(1 + r.IntN(12))
	}
	if one(5) {
		q.Limit = uint64(1 + r.IntN(60))
	}
	return q
}

// instant is a time at which something happened, or just beside it.
func (w *walk) instant(by store.By) *thing.Micros {
	m := thing.MicrosOf(w.clock.Now()) - thing.Micros(w.rnd.Int64N(7200*1e6))
	if n := len(w.m.log); n > 0 && w.rnd.IntN(4) > 0 {
		m = timeOf(w.m.log[w.rnd.IntN(n)], by) + thing.Micros(w.rnd.IntN(3)-1)
	}
	return &m
}

// past asks for a directory of some time ago.
func (w *walk) past() {
	q := store.AsOf{At: *w.instant(store.ByReceived), Tree: w.rnd.IntN(5) > 0}
	if w.rnd.IntN(3) == 0 {
		q.Name = w.name()
	}
	if w.rnd.IntN(4) == 0 {
		after := w.name()
		q.After = &after
	}
	page := 1 + w.rnd.IntN(6)
	if w.rnd.IntN(2) == 0 {
		page = whole
	}
	w.did("directory of %q at %d", q.Name, q.At)
	w.asOf(q, page)
}
