package publish

import (
	"context"
	"errors"
	"sync"
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/store"
	"tbhist/thing"
)

// A page read for a subscriber has leastPage to mostPage bytes: large while
// it takes them quickly, since reading is then cheapest, and small for a
// slow one, since that is what it holds while its writer waits.
const (
	leastPage = 32 << 10
	mostPage  = 256 << 10
	quickly   = 50 * time.Millisecond
	// countPage is how many updates are counted in one reading.
	countPage = 32 << 10
)

// All subscribers' pages together have manyPages bytes, and beyond that
// tinyPage each: what is held by those who take them slowly is bounded.
const (
	manyPages = 8 << 20
	tinyPage  = 8 << 10
)

// pageBuffers are for pages of leastPage at most, and for larger ones: a slow
// subscriber is not to hold a large buffer with a small page in it.
var pageBuffers = [2]sync.Pool{
	{New: func() any { return new([]byte) }},
	{New: func() any { return new([]byte) }},
}

// pageRoom books room for a subscriber's next page: as much as it would have,
// or less when others hold much.
func (p *Publisher) pageRoom(room int) int {
	if p.pages.Add(int64(room)) > manyPages {
		p.pages.Add(int64(tinyPage - room))
		room = tinyPage
	}
	return room
}

// catchUp is how far a subscriber outside the window has come. The writer's
// own.
type catchUp struct {
	// question is the one under way, asked for matcher; nil for none.
	question *store.Query
	matcher  *matcher
	room     int // bytes of the next page
}

// tooFar tells whether an update is further back than a subscriber may be;
// seq is its own, or that of the newest one before it. One that had caught up
// more recently than that is not behind: then it was the disk that was slow.
// Nor is one that is to be sent what was published more recently: then the
// time of day stepped since it was received.
func (s *subscriber) tooFar(received thing.Micros, seq uint64, since time.Time) bool {
	p := s.p
	lag := p.o.MaxLag
	if lag < 0 || p.clock.wall().Sub(received.Time()) <= lag {
		return false
	}
	now := p.clock.now()
	if now.Sub(since) <= lag {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return seq <= p.past.head(now)
}

// catchUp sends one page of history to a subscriber outside the window.
func (s *subscriber) catchUp(ctx context.Context, st step) error {
	m := s.matcher()
	if m.none() {
		s.progress(st.upTo, 0)
		return nil
	}
	h := &s.history
	if h.question == nil || h.matcher != m {
		q := m.query()
		q.After, q.UpTo = st.after, st.upTo
		h.question, h.matcher = &q, m
	}
	h.room = min(max(h.room, leastPage), mostPage)
	room := s.p.pageRoom(h.room)
	defer s.p.pages.Add(-int64(room))
	buffers, most := &pageBuffers[0], 2*leastPage
	if room > leastPage {
		buffers, most = &pageBuffers[1], 2*mostPage
	}
	buf := buffers.Get().(*[]byte) // nothing else is in there
	defer func() {
		if cap(*buf) <= most {
			buffers.Put(buf)
		}
	}()
	framed, sent, first, far := (*buf)[:0], 0, thing.Micros(0), false
	var line []byte
	page, err := s.p.read(ctx, *h.question, func(u *thing.Update) bool {
		line = wire.AppendUpdate(line[:0], u)
		if !m.update(line) {
			return true
		}
		if sent == 0 {
			first = u.Received
			if far = s.tooFar(u.Received, u.Seq, st.since); far {
				return false
			}
		} else if len(framed)+len(line) > room {
			return false
		}
		framed, sent = zmtp.AppendFrame(framed, line, false), sent+1
		return true
	})
	*buf = framed
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, store.ErrClosed):
		return err
	case errors.Is(err, store.ErrBadResume):
		h.question = nil // ask anew, from the last update that was sent
		return nil
	case err != nil:
		s.p.o.Logger.Warn("history cannot be read for a subscriber: it is moved to the present",
			"source", s.conn.Remote(), "err", err)
		return s.skip(ctx, m, st)
	case far:
		return s.skip(ctx, m, st)
	}

	after := max(st.after, page.Last)
	if page.Next == nil {
		after, h.question = h.question.UpTo, nil
	} else {
		h.question.Resume = page.Next
	}
	began := time.Now()
	if sent > 0 {
		s.progress(st.after, first)
		if err := s.put(framed); err != nil {
			return err
		}
		s.p.o.Metrics.Delivered.Add(float64(sent))
		s.p.o.Metrics.FromHistory.Add(float64(sent))
	}
	if time.Since(began) > quickly {
		h.room = leastPage
	} else {
		h.room = min(2*h.room, mostPage)
	}
	s.progress(after, 0)
	if evicted := missing(page, after-st.after); evicted > 0 {
		s.report(st.after+1, after, evicted)
	}
	return nil
}

// missing gives how many updates of a page's span of seqs were evicted.
// Where the store knows a bound only, that may be all of a Thing's, and the
// span is a better one.
func missing(page store.Page, span uint64) uint64 {
	return min(page.Evicted, span-min(span, page.Count))
}

// progress moves the cursor of a subscriber outside the window; sending,
// unless 0, is when the update that it is about to be sent was received.
func (s *subscriber) progress(after uint64, sending thing.Micros) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.after = after
	if sending != 0 {
		s.sending = sending
	}
}

// report notes matching updates that the subscriber was not sent.
func (s *subscriber) report(from, to, updates uint64) {
	s.p.o.Metrics.Skipped.Add(float64(updates))
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.skipped.add(min(from, to), to, updates)
	s.beatNow = true
}

// skip moves the subscriber to the present, and counts what it misses.
func (s *subscriber) skip(ctx context.Context, m *matcher, st step) error {
	p := s.p
	s.history.question = nil
	var unkept uint64
	for i, c := range st.chunks {
		if !c.kept() {
			idx := 0
			if i == 0 {
				idx = st.idx
			}
			unkept += c.matching(m, idx)
		}
	}
	var missed []*chunk
	p.mu.Lock()
	w := &p.window
	for ord := max(s.next, w.first); ord < w.next && w.unkept > 0; ord++ {
		if c := w.at(ord); !c.kept() {
			missed = append(missed, c)
		}
	}
	head := w.head
	s.next, s.idx, s.after, s.since, s.sending = w.next, 0, head, p.clock.now(), 0
	p.mu.Unlock()
	for _, c := range missed {
		unkept += c.matching(m, 0)
	}
	kept, err := p.count(ctx, m, st.after, head)
	if err != nil {
		return err
	}
	s.report(st.after+1, head, kept+unkept)
	p.o.Logger.Info("subscriber moved to the present: it was too far behind",
		"source", s.conn.Remote(), "from", st.after+1, "to", head, "skipped", kept+unkept)
	return nil
}

// count gives how many updates with after < seq <= upTo match, those evicted
// since too. Where history cannot be read it is the number of all.
func (p *Publisher) count(ctx context.Context, m *matcher, after, upTo uint64) (n uint64, err error) {
	if m.all || upTo == after {
		return upTo - after, nil
	}
	q := m.query()
	q.After, q.UpTo = after, upTo
	var line []byte
	var given, evicted uint64
	for {
		read := 0
		page, err := p.read(ctx, q, func(u *thing.Update) bool {
			if read == countPage {
				return false
			}
			read++
			if !m.byName {
				if line = wire.AppendUpdate(line[:0], u); !m.update(line) {
					return true
				}
			}
			n++
			return true
		})
		switch {
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case err != nil:
			p.o.Logger.Warn("history cannot be read: all updates count as skipped", "err", err)
			return upTo - after, nil
		}
		given += page.Count
		evicted += page.Evicted
		if page.Next == nil {
			page.Count, page.Evicted = given, evicted
			return n + missing(page, upTo-after), nil
		}
		q.Resume = page.Next
	}
}

// read reads a page for a subscriber, a few of them at a time.
func (p *Publisher) read(ctx context.Context, q store.Query, yield func(*thing.Update) bool) (store.Page, error) {
	select {
	case p.reads <- struct{}{}:
	case <-ctx.Done():
		return store.Page{}, ctx.Err()
	}
	defer func() { <-p.reads }()
	return p.o.Store.Read(ctx, q, yield)
}
