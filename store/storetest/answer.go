package storetest

import (
	"bytes"
	"fmt"
	"strings"

	"tbhist/store"
	"tbhist/thing"
)

// whole as the cut of a page refuses nothing.
const whole = int(^uint(0) >> 1)

// answer is a question on its way through its pages.
type answer struct {
	f         *fixture
	q         *question
	next      []byte // Page.Next of the page before
	nextCopy  []byte
	done      bool
	pages     int
	delivered map[uint64]bool
	last      uint64 // Seq of the last update delivered, After before the first
	reach     uint64 // the page before ended at last or later, at reach at most
	changes   string // state of the history at the first page
	evicted   uint64 // Evicted of all pages
	exact     bool   // all pages were exact
}

// ask begins a question; its first page is yet to be read.
func (f *fixture) ask(q store.Query) *answer {
	return &answer{f: f, q: f.m.ask(q), last: q.After, reach: q.After, delivered: map[uint64]bool{}, exact: true, changes: f.state()}
}

// read asks a question and compares its answer in one page; cuts, when
// given, cut it into pages of so many updates, the last one counting for all
// that follow.
func (f *fixture) read(q store.Query, cuts ...int) *answer {
	f.t.Helper()
	a := f.ask(q)
	for i := 0; !a.done; i++ {
		cut := whole
		if len(cuts) > 0 {
			cut = cuts[min(i, len(cuts)-1)]
		}
		a.page(cut)
	}
	return a
}

// state tells whether the history has changed.
func (f *fixture) state() string {
	evicted := uint64(0)
	for _, r := range f.m.things {
		evicted += r.evicted
	}
	return fmt.Sprint(f.m.head(), evicted)
}

// page reads one page, refuses its update number cut (from 0), and compares
// everything with the model.
func (a *answer) page(cut int) {
	t := a.f.t
	t.Helper()
	m := a.f.m
	want := m.live(a.q, a.last)
	following := len(want) // updates that match, Limit aside
	limited := false       // this page can reach Limit
	if a.q.Limit != 0 {
		if rest := int(a.q.Limit) - len(a.delivered); following >= rest {
			want, limited = want[:rest], true
		}
	}
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("page %d of %s, refusing its update %s: %s\nmodel: head %d, this page may have %s; delivered so far: %d, up to seq %d",
			a.pages+1, describe(a.q.Query), cutString(cut), fmt.Sprintf(format, args...),
			m.head(), seqs(want), len(a.delivered), a.last)
	}

	got, page, problem := a.fetch(cut, want)
	if problem != "" {
		fail("%s", problem)
	}
	a.pages++
	refused := got == cut && cut < len(want)
	stopped := !refused && got < len(want) // by the read budget
	a.checkPage(fail, page, want[:got])

	for _, k := range want[:got] {
		a.delivered[k.Seq] = true
		a.last = k.Seq
	}
	switch {
	case limited && got == len(want):
		if page.Next != nil {
			fail("Limit is reached, yet Next is set")
		}
		if !page.Limited && following > got {
			fail("Limit ended the answer, yet Limited is not set")
		}
		a.done = true
		a.reach = a.q.end(m)
		if following > got {
			a.reach = m.live(a.q, a.last)[0].Seq - 1
		}
	case page.Limited:
		fail("Limited is set, but Limit did not end the answer")
	case refused || stopped:
		if page.Next == nil {
			fail("Next is nil, but %d updates are still wanted", len(want)-got)
		}
		a.reach = want[got].Seq - 1
	case page.Next == nil:
		a.done = true
		a.last = max(a.last, a.q.end(m))
		a.reach = a.last
	case m.bytes < store.ReadBudget/4:
		fail("nothing was refused and nothing is left, yet Next is set")
	default:
		a.reach = max(a.reach, a.q.end(m))
	}
	if a.pages > 10_000 {
		fail("no end after %d pages", a.pages)
	}
	a.checkEvicted(fail, page)
	a.next, a.nextCopy = page.Next, bytes.Clone(page.Next)
}

// fetch reads a page, comparing each update as it comes. got counts those
// that were accepted.
func (a *answer) fetch(cut int, want []*kept) (got int, page store.Page, problem string) {
	q := a.q.Query
	q.Resume = a.next
	if !bytes.Equal(a.next, a.nextCopy) {
		return 0, page, "Next of the page before has changed since"
	}
	asked := map[thing.Name]int{}
	if a.q.Match != nil {
		q.Match = func(n thing.Name) bool {
			asked[n]++
			return a.q.Match(n)
		}
	}
	refused := false
	page, err := a.f.e.Read(a.f.t.Context(), q, func(u *thing.Update) bool {
		switch {
		case problem != "":
		case refused:
			problem = fmt.Sprintf("update %d came after one was refused", u.Seq)
		case got == len(want):
			problem = fmt.Sprintf("update %d of %q came, which is not wanted here", u.Seq, u.Name)
		default:
			if d := diff(u, &want[got].Update); d != "" {
				problem = fmt.Sprintf("after %d updates: %s", got, d)
			}
		}
		if problem != "" || got == cut {
			refused = true
			return false
		}
		got++
		return true
	})
	if problem != "" {
		return got, page, problem
	}
	if err != nil {
		return got, page, fmt.Sprintf("after %d updates: %v", got, err)
	}
	for n, times := range asked {
		if times > 1 {
			return got, page, fmt.Sprintf("Match was called %d times for %q", times, n)
		}
	}
	if got < min(cut, len(want)) && (page.Next == nil || a.f.m.bytes < store.ReadBudget/4) {
		return got, page, fmt.Sprintf("%d updates came, want %d", got, min(cut, len(want)))
	}
	if got == cut && cut < len(want) && !refused {
		return got, page, fmt.Sprintf("update %d was not offered", want[got].Seq)
	}
	return got, page, ""
}

// checkPage compares what the page says of itself.
func (a *answer) checkPage(fail func(string, ...any), p store.Page, got []*kept) {
	first, last := uint64(0), uint64(0)
	if len(got) > 0 {
		first, last = got[0].Seq, got[len(got)-1].Seq
	}
	switch {
	case p.Count != uint64(len(got)):
		fail("Count is %d, but %d were accepted", p.Count, len(got))
	case p.First != first || p.Last != last:
		fail("First, Last are %d, %d, want %d, %d", p.First, p.Last, first, last)
	case p.Head != a.f.m.head():
		fail("Head is %d, want %d", p.Head, a.f.m.head())
	case p.Next != nil && len(p.Next) == 0:
		fail("Next is neither nil nor a position")
	case len(p.Next) >= 1<<20:
		fail("Next has %d bytes", len(p.Next))
	}
}

// checkEvicted compares what the pages so far count as evicted. Where a page
// was refused an update, it may have ended anywhere between the last one it
// delivered and the refused one. Of a question that is not about the whole
// tree an engine may count early what lies behind a page; it must not count
// late, and in the end the pages add up.
func (a *answer) checkEvicted(fail func(string, ...any), p store.Page) {
	m := a.f.m
	a.evicted += p.Evicted
	a.exact = a.exact && p.EvictedExact
	still := a.changes == a.f.state()

	least := m.evictedIn(a.q, a.q.After, a.last, a.delivered)
	most := m.evictedIn(a.q, a.q.After, a.reach, a.delivered)
	room := max(a.q.end(m), a.q.After) - a.q.After
	none := m.noneEvicted(a.q)
	byPage := a.q.wholeTree()
	told := fmt.Sprintf("pages up to here count %d evicted", a.evicted)
	if !a.exact {
		told += " at most"
	}
	switch {
	case a.evicted < least:
		fail("%s, but %d are", told, least)
	case a.exact && a.evicted > most && (byPage || a.done):
		fail("%s, but %d are", told, most)
	case a.evicted > 0 && none:
		fail("%s, but nothing was", told)
	case a.evicted > room && still:
		fail("%s, more than there is room for from seq %d to %d", told, a.q.After+1, a.q.end(m))
	case !a.exact && none:
		fail("nothing was evicted, but EvictedExact is not set")
	case !a.exact && m.mustBeExact(a.q, still):
		fail("%s, but must be exact (%d)", told, most)
	}
}

func cutString(cut int) string {
	if cut == whole {
		return "none"
	}
	return fmt.Sprint(cut)
}

// describe shows a query in the report of a failure.
func describe(q store.Query) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{%q", q.Name)
	if q.Tree {
		b.WriteString(" tree")
	}
	if q.Match != nil {
		b.WriteString(" match")
	}
	if q.After != 0 {
		fmt.Fprintf(&b, " after %d", q.After)
	}
	if q.UpTo != 0 {
		fmt.Fprintf(&b, " up to %d", q.UpTo)
	}
	by := "received"
	if q.By == store.ByTS {
		by = "ts"
	}
	if q.Since != nil {
		fmt.Fprintf(&b, " since %d by %s", *q.Since, by)
	}
	if q.Until != nil {
		fmt.Fprintf(&b, " until %d by %s", *q.Until, by)
	}
	if q.Last != 0 {
		fmt.Fprintf(&b, " last %d", q.Last)
	}
	if q.Limit != 0 {
		fmt.Fprintf(&b, " limit %d", q.Limit)
	}
	return b.String() + "}"
}

// seqs shows the first few updates by Seq.
func seqs(list []*kept) string {
	const most = 8
	var b strings.Builder
	fmt.Fprintf(&b, "%d updates", len(list))
	for i, k := range list {
		if i == most {
			b.WriteString(" …")
			break
		}
		fmt.Fprintf(&b, " %d(%q)", k.Seq, k.Name)
	}
	return b.String()
}
