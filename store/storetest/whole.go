package storetest

import (
	"fmt"
	"math"

	"tbhist/store"
	"tbhist/thing"
)

// checkState compares State.
func (f *fixture) checkState() {
	f.t.Helper()
	s := f.e.State()
	updates := uint64(0)
	from, to := thing.Micros(0), thing.Micros(0) // bounds of the oldest
	if len(f.m.log) > 0 {
		from, to = math.MaxInt64, math.MinInt64
	}
	for _, k := range f.m.log {
		from = min(from, k.Received)
		if !k.evicted() {
			updates++
			to = max(to, k.Received)
		}
	}
	if s.Epoch != f.epoch {
		f.t.Fatalf("Epoch is %q, was %q", s.Epoch, f.epoch)
	}
	if s.Head != f.m.head() {
		f.t.Fatalf("State: Head is %d, want %d", s.Head, f.m.head())
	}
	if s.Things != len(f.m.things) {
		f.t.Fatalf("State: Things is %d, want %d", s.Things, len(f.m.things))
	}
	if s.Updates != updates {
		f.t.Fatalf("State: Updates is %d, want %d", s.Updates, updates)
	}
	if s.Oldest < from || s.Oldest > to {
		f.t.Fatalf("State: Oldest is %d, want one from %d to %d", s.Oldest, from, to)
	}
	if s.Degraded != "" {
		f.t.Fatalf("State: Degraded is %q", s.Degraded)
	}
}

// checkLatest compares Latest.
func (f *fixture) checkLatest() {
	f.t.Helper()
	seen := map[thing.Name]bool{}
	problem := ""
	err := f.e.Latest(func(u *thing.Update, doc []byte) bool {
		r := f.m.things[u.Name]
		if r == nil {
			problem = fmt.Sprintf("there is no %q", u.Name)
			return false
		}
		if seen[u.Name] {
			problem = fmt.Sprintf("%q came twice", u.Name)
			return false
		}
		seen[u.Name] = true
		if d := diff(u, &r.newest().Update); d != "" {
			problem = d
			return false
		}
		var want []byte
		if k := r.doc(r.newest()); k != nil {
			want = k.Doc
		}
		if !sameDoc(doc, want) {
			problem = fmt.Sprintf("%q: sticky documentation URL is %s, want %s", u.Name, short(doc), short(want))
			return false
		}
		return true
	})
	if problem != "" {
		f.t.Fatalf("Latest: %s", problem)
	}
	if err != nil {
		f.t.Fatalf("Latest: %v", err)
	}
	for _, r := range f.m.rings() {
		if !seen[r.name] {
			f.t.Fatalf("Latest: %q is missing", r.name)
		}
	}
}

// checkKept compares Kept for all Things there are and one that is not.
func (f *fixture) checkKept() {
	f.t.Helper()
	names := []thing.Name{"no.such.thing"}
	for _, r := range f.m.rings() {
		names = append(names, r.name)
	}
	seen := make([]bool, len(names))
	problem := ""
	err := f.e.Kept(f.t.Context(), names, func(i int, updates uint64, oldest thing.Micros) {
		switch {
		case problem != "":
			return
		case i < 0 || i >= len(names) || seen[i]:
			problem = fmt.Sprintf("%d came twice or is no name asked for", i)
			return
		}
		seen[i] = true
		r := f.m.things[names[i]]
		if r == nil {
			if updates != 0 {
				problem = fmt.Sprintf("%d updates of %q, which there is not", updates, names[i])
			}
			return
		}
		if want := uint64(len(r.live())); updates != want {
			problem = fmt.Sprintf("%q has %d updates, want %d", names[i], updates, want)
		} else if want := r.oldest().Received; oldest != want {
			problem = fmt.Sprintf("the oldest of %q was received %d, want %d", names[i], oldest, want)
		}
	})
	if problem != "" {
		f.t.Fatalf("Kept: %s", problem)
	}
	if err != nil {
		f.t.Fatalf("Kept: %v", err)
	}
	for i, ok := range seen {
		if !ok {
			f.t.Fatalf("Kept: %q is missing", names[i])
		}
	}
}

// asOf asks for a past directory in pages of so many entries and compares.
func (f *fixture) asOf(q store.AsOf, page int) {
	f.t.Helper()
	want := f.m.asOf(q)
	fail := func(format string, args ...any) {
		f.t.Helper()
		f.t.Fatalf("directory of %q (tree %v) at %d in pages of %s: %s", q.Name, q.Tree, q.At, cutString(page), fmt.Sprintf(format, args...))
	}
	next := 0 // of want
	for more := true; more; {
		more = false
		n := 0
		problem := ""
		var last thing.Name
		head, err := f.e.AsOf(f.t.Context(), q, func(e *store.PastEntry) bool {
			if more {
				problem = fmt.Sprintf("%q came after an entry was refused", e.Update.Name)
				return false
			}
			for next < len(want) && want[next].absent && want[next].name < e.Update.Name {
				next++
			}
			if next == len(want) {
				problem = fmt.Sprintf("%q came, which is not wanted", e.Update.Name)
			} else if p := &want[next]; p.name != e.Update.Name {
				problem = fmt.Sprintf("%q came, want %q", e.Update.Name, p.name)
			} else {
				problem = p.diff(e)
			}
			if problem != "" {
				return false
			}
			if n == page {
				more = true
				return false
			}
			n++
			next++
			last = e.Update.Name
			return true
		})
		if problem != "" {
			fail("%s", problem)
		}
		if err != nil {
			fail("%v", err)
		}
		if head != f.m.head() {
			fail("head is %d, want %d", head, f.m.head())
		}
		if n > 0 {
			q.After = &last
		}
	}
	for ; next < len(want); next++ {
		if !want[next].absent {
			fail("%q is missing", want[next].name)
		}
	}
}

// diff says how an entry differs from the one wanted, "" when it does not.
func (p *past) diff(e *store.PastEntry) string {
	switch {
	case e.Unknown != (p.last == nil):
		return fmt.Sprintf("%q: Unknown is %v, want %v", p.name, e.Unknown, p.last == nil)
	case e.Unknown:
		return ""
	}
	if d := diff(&e.Update, &p.last.Update); d != "" {
		return d
	}
	if sameDoc(e.Doc, p.doc) || p.docLost && e.Doc == nil {
		return ""
	}
	return fmt.Sprintf("%q: documentation URL then is %s, want %s", p.name, short(e.Doc), short(p.doc))
}
