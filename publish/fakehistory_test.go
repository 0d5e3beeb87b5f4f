package publish

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"

	"tbhist/store"
	"tbhist/thing"
)

// fakeHistory is a history in memory, evicting by count.
type fakeHistory struct {
	mu       sync.Mutex
	all      []thing.Update // ever kept: seq is the index + 1
	things   map[thing.Name]uint64
	ring     uint64 // per Thing; 0 keeps all
	degraded string
	readErr  error
	// onRead, unless nil, is called at the begin of each Read, without mu.
	onRead func(ctx context.Context)
	reads  int
}

func newFakeHistory() *fakeHistory { return &fakeHistory{things: map[thing.Name]uint64{}} }

// keep gives the batch its numbers and keeps it.
func (h *fakeHistory) keep(batch []thing.Update) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range batch {
		u := &batch[i]
		h.things[u.Name]++
		u.Seq, u.ThingSeq = uint64(len(h.all))+1, h.things[u.Name]
		h.all = append(h.all, *u)
	}
}

func (h *fakeHistory) evicted(u *thing.Update) bool {
	return h.ring > 0 && u.ThingSeq+h.ring <= h.things[u.Name]
}

func (h *fakeHistory) set(f func(h *fakeHistory)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

func inTree(n, name thing.Name, tree bool) bool { return n == name || tree && n.Under(name) }

// A resume is: seq read up to, updates counted, head at the first page.
func (h *fakeHistory) Read(ctx context.Context, q store.Query, yield func(*thing.Update) bool) (store.Page, error) {
	h.mu.Lock()
	onRead := h.onRead
	h.reads++
	h.mu.Unlock()
	if onRead != nil {
		onRead(ctx)
	}
	if err := ctx.Err(); err != nil {
		return store.Page{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readErr != nil {
		return store.Page{}, h.readErr
	}
	from, counted, head0 := q.After, uint64(0), uint64(len(h.all))
	if q.Resume != nil {
		if len(q.Resume) != 24 {
			return store.Page{}, store.ErrBadResume
		}
		from, counted, head0 = binary.BigEndian.Uint64(q.Resume), binary.BigEndian.Uint64(q.Resume[8:]), binary.BigEndian.Uint64(q.Resume[16:])
	}
	page := store.Page{Head: uint64(len(h.all)), EvictedExact: true}
	end := page.Head
	if q.UpTo != 0 {
		end = min(end, q.UpTo)
	}
	fits := func(u *thing.Update) bool {
		at := u.Received
		if q.By == store.ByTS {
			at = thing.MicrosOfSeconds(u.TS)
		}
		return inTree(u.Name, q.Name, q.Tree) && (q.Match == nil || q.Match(u.Name)) &&
			(q.Since == nil || at >= *q.Since) && (q.Until == nil || at < *q.Until)
	}
	newest := map[uint64]bool{} // seqs that Last leaves
	if q.Last > 0 {
		n := map[thing.Name]uint64{}
		for seq := min(end, head0); seq > q.After; seq-- {
			if u := &h.all[seq-1]; fits(u) && n[u.Name] < q.Last {
				n[u.Name]++
				newest[seq] = true
			}
		}
		end = min(end, head0)
	}
	resume := func(seq uint64) []byte {
		b := binary.BigEndian.AppendUint64(nil, seq)
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, counted), head0)
	}
	for seq := from + 1; seq <= end; seq++ {
		u := h.all[seq-1]
		if !fits(&u) || q.Last > 0 && !newest[seq] {
			continue
		}
		if h.evicted(&u) {
			page.Evicted++
			continue
		}
		if q.Limit > 0 && counted == q.Limit {
			page.Limited = true
			return page, nil
		}
		u.Data, u.Doc = slices.Clone(u.Data), slices.Clone(u.Doc)
		if !yield(&u) {
			page.Next = resume(seq - 1)
			return page, nil
		}
		clear(u.Data) // valid during the call only
		counted++
		if page.Count++; page.Count == 1 {
			page.First = seq
		}
		page.Last = seq
	}
	return page, nil
}

func (h *fakeHistory) AsOf(_ context.Context, q store.AsOf, yield func(*store.PastEntry) bool) (uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []thing.Name
	for n := range h.things {
		if inTree(n, q.Name, q.Tree) && (q.After == nil || n > *q.After) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		var e store.PastEntry
		e.Update.Name = n
		found := false
		for i := range h.all {
			u := h.all[i]
			switch {
			case u.Name != n || u.Received > q.At:
			case h.evicted(&u):
				e.Unknown, found = true, true
			default:
				e, found = store.PastEntry{Update: u, Doc: u.Doc}, true
			}
		}
		if found && !yield(&e) {
			break
		}
	}
	return uint64(len(h.all)), nil
}

func (h *fakeHistory) Kept(_ context.Context, names []thing.Name, yield func(int, uint64, thing.Micros)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, n := range names {
		var count uint64
		var oldest thing.Micros
		for j := range h.all {
			if u := &h.all[j]; u.Name == n && !h.evicted(u) {
				if count++; count == 1 {
					oldest = u.Received
				}
			}
		}
		yield(i, count, oldest)
	}
	return nil
}

func (h *fakeHistory) State() store.State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return store.State{Epoch: "e1", Head: uint64(len(h.all)), Degraded: h.degraded}
}
