package client

import (
	"context"
	"errors"
	"iter"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// ThingsQuery asks for a part of the directory. The zero value asks for all
// of it, as it is now.
type ThingsQuery struct {
	// Name is the Thing asked about, with all Things below it unless Alone.
	Name  thing.Name
	Alone bool
	// At, unless nil, asks for the directory as it was: the last update of
	// each Thing that the broker had received by then.
	At *thing.Micros
	// Wide asks for Entry.Wide, too.
	Wide bool
}

// Entry is one Thing of the directory.
type Entry struct {
	// Update is the Thing's newest. Its Doc is nil: see Doc below.
	Update Update
	// Doc is the documentation URL in force, as JSON: the last one that was
	// not empty. Nil for none.
	Doc []byte
	// Unknown tells that the Thing had data at the time asked for, of which
	// history no longer knows. Only Update.Name is set then.
	Unknown bool
	// Wide is nil unless it was asked for.
	Wide *Wide
}

// Wide is what is told of a Thing on request.
type Wide struct {
	// Source is the address that sent the newest update, Transport its way
	// in, "zmq" or "udp"; "" when nothing came since the broker was started.
	Source, Transport string
	// Sources counts the sources in the last hour, 8 at most.
	Sources int
	// Kept counts the updates in history; Oldest is when the oldest of them
	// was received, nil when there is none.
	Kept   uint64
	Oldest *thing.Micros
}

// Things asks for the directory and yields its entries in byte order of
// their names. Things without data are not in it. An error is the last
// thing it yields.
func (c *Client) Things(ctx context.Context, q ThingsQuery) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		h, err := c.history(ctx)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		defer h.close()
		r := &wire.Request{Type: wire.TypeDirectory, At: q.At}
		r.NS, r.Tree = scope(q.Name, q.Alone)
		if q.Wide {
			r.Wide = &q.Wide
		}
		var last thing.Name
		begun := false
		err = h.pages(ctx, r, new(moving), func(p *page) error {
			for line := range p.lines {
				e, err := wire.ParseEntry(line)
				if err != nil {
					return unreadable(err)
				}
				name := e.Update.Name
				switch {
				case begun && name <= last:
					return h.nonsense("Thing %q behind %q, in an answer in the order of names", name, last)
				case !within(name, q.Name, q.Alone):
					return h.nonsense("Thing %q where %q was asked for", name, q.Name)
				}
				begun, last = true, name
				if !yield(entryOf(&e), nil) {
					return errStop
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(Entry{}, err)
		}
	}
}

func entryOf(e *wire.Entry) Entry {
	entry := Entry{Update: e.Update, Doc: e.Doc, Unknown: e.Unknown}
	if w := e.Wide; w != nil {
		entry.Wide = &Wide{Source: visible(w.Source), Transport: visible(w.Transport), Sources: w.Sources, Kept: w.Kept, Oldest: w.Oldest}
	}
	return entry
}
