package storetest

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

// fixture is an engine with the model beside it. What a test does to one, it
// does to the other.
type fixture struct {
	t      *testing.T
	e      Engine
	m      *model
	clock  *clock
	o      Options
	epoch  string
	closed bool
	steps  []string // what was done, the last few, for the report of a failure
}

// clock is the broker's, under the test's hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// start is when every test begins.
var start = time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)

// newFixture opens an empty history. change may set other options.
func newFixture(t *testing.T, open Open, rules []store.Rule, change ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: &clock{now: start}}
	f.o = Options{Dir: t.TempDir(), Rules: rules, Now: f.clock.Now, TrustClock: true}
	for _, c := range change {
		c(&f.o)
	}
	var err error
	if f.m, err = newModel(rules); err != nil {
		t.Fatal(err)
	}
	f.e = open(t, f.o)
	t.Cleanup(func() {
		if t.Failed() && len(f.steps) > 0 {
			t.Logf("last steps:\n\t%s", strings.Join(f.steps, "\n\t"))
		}
		f.close()
	})
	f.epoch = f.e.State().Epoch
	return f
}

func (f *fixture) close() {
	if f.closed {
		return
	}
	f.closed = true
	if err := f.e.Close(); err != nil {
		f.t.Errorf("Close: %v", err)
	}
}

// did notes a step for the report of a failure.
func (f *fixture) did(format string, args ...any) {
	const most = 25
	if len(f.steps) == most {
		f.steps = f.steps[1:]
	}
	f.steps = append(f.steps, fmt.Sprintf(format, args...))
}

// append gives the batch to engine and model and compares what they make of
// it. Afterwards it overwrites the batch: an engine keeps copies.
func (f *fixture) append(batch ...thing.Update) {
	f.t.Helper()
	want := f.m.append(batch)
	f.did("append %d updates, head %d", len(batch), f.m.head())
	given := copyBatch(batch)
	got, err := f.e.Append(f.t.Context(), given)
	if err != nil {
		f.t.Fatalf("Append of %d updates: %v", len(batch), err)
	}
	if len(got) != len(want) {
		f.t.Fatalf("Append of %d updates answered %d committed", len(batch), len(got))
	}
	for i := range want {
		if d := diff(&got[i], &want[i]); d != "" {
			f.t.Fatalf("Append: committed update %d of %d: %s", i, len(want), d)
		}
	}
	for _, u := range given {
		overwrite(u.Data)
		overwrite(u.Doc)
	}
	clear(given)
}

func overwrite(b []byte) {
	for i := range b {
		b[i] = 'X'
	}
}

// maintain has all background work done.
func (f *fixture) maintain() {
	f.t.Helper()
	f.did("maintain at %v", f.clock.Now().Sub(start))
	f.e.Maintain(f.t)
	if f.o.TrustClock {
		f.m.age(f.clock.Now())
	}
}

// reopen closes and opens under the same rules.
func (f *fixture) reopen() {
	f.t.Helper()
	f.reopenWith(f.o.Rules...)
}

// reopenWith closes and opens under other rules.
func (f *fixture) reopenWith(rules ...store.Rule) {
	f.t.Helper()
	f.did("reopen with rules %v", rules)
	f.o.Rules = rules
	f.closed = true // should Reopen end the test half way
	f.e = f.e.Reopen(f.t, f.o)
	f.closed = false
	if err := f.m.setRules(rules); err != nil {
		f.t.Fatal(err)
	}
}

// check compares everything an engine tells without being asked anything
// particular.
func (f *fixture) check() {
	f.t.Helper()
	f.checkState()
	f.checkLatest()
	f.checkKept()
	f.read(store.Query{Tree: true})
}

// update makes an update received now.
func (f *fixture) update(name thing.Name, data string) thing.Update {
	now := thing.MicrosOf(f.clock.Now())
	return thing.Update{Name: name, Data: []byte(data), TS: now.Seconds(), Received: now}
}

// diff says how an update differs from the one wanted, "" when it does not.
func diff(got, want *thing.Update) string {
	if got.Seq != want.Seq || got.Name != want.Name {
		return fmt.Sprintf("update %d of %q, want %d of %q", got.Seq, got.Name, want.Seq, want.Name)
	}
	var d []string
	add := func(member string, got, want any) {
		d = append(d, fmt.Sprintf("%s is %v, want %v", member, got, want))
	}
	if got.ThingSeq != want.ThingSeq {
		add("ThingSeq", got.ThingSeq, want.ThingSeq)
	}
	if !bytes.Equal(got.Data, want.Data) {
		add("Data", short(got.Data), short(want.Data))
	}
	if !sameDoc(got.Doc, want.Doc) {
		add("Doc", short(got.Doc), short(want.Doc))
	}
	if math.Float64bits(got.TS) != math.Float64bits(want.TS) {
		add("TS", fmt.Sprintf("%v (%x)", got.TS, math.Float64bits(got.TS)), fmt.Sprintf("%v (%x)", want.TS, math.Float64bits(want.TS)))
	}
	if got.Received != want.Received {
		add("Received", got.Received, want.Received)
	}
	if len(d) == 0 {
		return ""
	}
	return fmt.Sprintf("update %d of %q: %s", want.Seq, want.Name, strings.Join(d, "; "))
}

// sameDoc compares documentation URLs: nil is null, and no doc is empty.
func sameDoc(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func short(b []byte) string {
	if b == nil {
		return "nil"
	}
	if len(b) > 60 {
		return fmt.Sprintf("%.60s… (%d bytes)", b, len(b))
	}
	return string(b)
}
