package publish

import (
	"bytes"
	"context"

	"tbhist/internal/wire"
	"tbhist/store"
	"tbhist/thing"
)

// listed is one entry of a directory page while that is made.
type listed struct {
	entry wire.Entry
	wide  wire.Wide
}

// A wide page has mostWide bytes at most: while it is made its entries are
// held beside its lines, and take wideTimes as much.
const (
	mostWide  = 1 << 20
	wideTimes = 4
)

// directory answers with one page of the directory, as it is or was.
func (a *asked) directory(ctx context.Context, r *wire.Request, q *question) (frame []byte, err error) {
	room := r.PageSize()
	booked := room
	if q.wide {
		room = min(room, mostWide)
		booked = wideTimes * room
	}
	done, err := a.turn(ctx, booked)
	if err != nil {
		return nil, err
	}
	defer done()
	a.lines.room = room
	l := lister{page: &a.lines, wide: q.wide}
	head := wire.PageHead{Type: wire.TypeDirectoryPage, ID: r.ID, Epoch: q.epoch}
	if q.at == nil {
		head.Head = a.p.o.Store.State().Head
		a.p.o.Directory.Walk(q.after, q.query.Name, q.query.Tree, func(e *Entry) bool {
			var wide wire.Wide
			if e.Source != nil {
				wide = wire.Wide{Source: e.Source.Addr.String(), Transport: e.Source.Transport.String()}
			}
			wide.Sources = e.Sources
			return l.add(wire.Entry{Update: e.Update, Doc: e.Doc}, wide)
		})
	} else {
		head.Head, err = a.p.o.Store.AsOf(ctx, store.AsOf{
			Name: q.query.Name, Tree: q.query.Tree, At: *q.at, After: q.after,
		}, func(e *store.PastEntry) bool {
			return l.add(wire.Entry{Update: e.Update, Doc: e.Doc, Unknown: e.Unknown}, wire.Wide{})
		})
		if err != nil {
			return nil, err
		}
	}
	if q.wide {
		if err := a.widen(ctx, &l); err != nil {
			return nil, err
		}
	}
	if err := a.fit(); err != nil {
		return nil, err
	}
	a.p.answers.shrink(a.room, a.lines.held()+a.bytes)
	head.Count = l.count
	if l.full {
		q.after = &l.last
		head.Next = q.cursor()
	}
	return head.Append(nil), nil
}

// lister collects a page's entries. Wide ones are held back, since what they
// add is asked for all of them at once.
type lister struct {
	*page
	wide bool
	last thing.Name
	held []listed
}

// add takes an entry, which is valid during the call only.
func (l *lister) add(e wire.Entry, wide wire.Wide) bool {
	dst := l.begin(wire.EntryRoom(&e))
	if !l.end(wire.AppendEntry(dst, &e)) {
		return false
	}
	l.last = e.Update.Name
	if l.wide {
		// The line's bytes stand for it in the page's size; the entry itself
		// is kept to be written again.
		l.keep(dst)
		e.Update.Data, e.Doc = bytes.Clone(e.Update.Data), bytes.Clone(e.Doc)
		l.held = append(l.held, listed{entry: e, wide: wide})
	}
	return true
}

// widen adds what history holds of each Thing, and writes the lines.
func (a *asked) widen(ctx context.Context, l *lister) error {
	names := make([]thing.Name, len(l.held))
	for i := range l.held {
		names[i] = l.held[i].entry.Update.Name
	}
	err := a.p.o.Store.Kept(ctx, names, func(i int, updates uint64, oldest thing.Micros) {
		w := &l.held[i].wide
		if w.Kept = updates; updates > 0 {
			w.Oldest = &oldest
		}
	})
	if err != nil {
		return err
	}
	for i := range l.held {
		h := &l.held[i]
		h.entry.Wide = &h.wide
		l.keep(append(wire.AppendEntry(l.begin(wire.EntryRoom(&h.entry)), &h.entry), '\n'))
	}
	return nil
}
