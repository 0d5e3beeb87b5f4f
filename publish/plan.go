package publish

import (
	"context"
	"math"
	"time"

	"tbhist/internal/wire"
)

// What a subscriber's writer is to do next.
const (
	doWait = iota
	doSend
	doHistory
	doHeartbeat
	doSnapshot
	doMakeSnapshot
)

// step is one thing to do, decided under Publisher.mu and done without it.
type step struct {
	do int

	// doWait: for a wake, or this long unless 0.
	alarm time.Duration

	// doSend: chunks from message idx on of the first.
	chunks []*chunk
	idx    int
	// doSend, doHistory: what was passed before, and since when the
	// subscriber has been behind.
	after uint64
	since time.Time
	// doHistory: read up to this seq before asking again.
	upTo uint64

	beat     wire.Heartbeat
	snapshot *snapshot
}

// runBytes is how much is taken from the window at a time.
const runBytes = chunkBytes

// plan decides what s does next. It moves the cursor past what is to be
// sent.
func (p *Publisher) plan(s *subscriber) step {
	now := p.clock.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &p.window
	s.stand(now)
	outside := s.next < w.first
	if outside {
		if ord, idx, ok := w.afterSeq(s.after, s.next); ok {
			s.next, s.idx, outside = ord, idx, false
		} else if s.snap.wanted && !s.begun { // it may as well have subscribed now
			s.next, s.idx, s.after, outside = w.next, 0, w.head, false
		}
	}
	st := step{after: s.after, since: s.since}
	limit := uint64(math.MaxUint64) // newest position to go to
	if !outside {
		s.history.question = nil // it goes on here, not where that was left
		var decided bool
		if limit, decided = p.planSnapshot(s, now, &st); decided {
			return st
		}
	}
	s.begun = s.begun || s.held > 0
	if s.beats > 0 && (s.beatNow || s.beat < p.beats) {
		s.beat, s.beatNow = p.beats, false
		st.do = doHeartbeat
		st.beat = wire.Heartbeat{
			Seq:         s.after,
			SkippedFrom: s.skipped.from, SkippedTo: s.skipped.to, Skipped: s.skipped.updates,
		}
		s.skipped = skipReport{}
		return st
	}
	if outside {
		st.do, st.upTo = doHistory, w.target(s.next)
		return st
	}
	if s.next == w.next {
		s.since, s.sending = now, 0
		if s.dirty {
			return st // flush, and look again
		}
		s.idle = true
		if (s.all > 0 || limit != math.MaxUint64) && !s.waits {
			s.waits = true
			p.waiting = append(p.waiting, s)
		}
		p.noteIdle()
		return st
	}
	st.idx = s.idx
	s.sending = w.at(s.next).msgs[s.idx].received
	run := s.run[:0]
	for bytes := 0; s.next < w.next; {
		c := w.at(s.next)
		if c.batch > limit || len(run) > 0 && bytes+len(c.framed) > runBytes {
			break
		}
		run = append(run, c)
		bytes += len(c.framed)
		s.next, s.idx, s.after = s.next+1, 0, c.last
	}
	s.run = run
	if len(run) > 0 {
		st.do, st.chunks = doSend, run
	}
	return st
}

// write does what plan says until the connection or ctx ends.
func (s *subscriber) write(ctx context.Context) error {
	for ctx.Err() == nil {
		st := s.p.plan(s)
		var err error
		switch st.do {
		case doWait:
			err = s.wait(ctx, st.alarm)
		case doSend:
			err = s.send(ctx, st)
			clear(s.run)
		case doHistory:
			err = s.catchUp(ctx, st)
		case doHeartbeat:
			err = s.heartbeat(st.beat)
		case doSnapshot:
			err = s.sendSnapshot(st.snapshot)
		case doMakeSnapshot:
			s.p.makeFor(s)
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// wait flushes, or if there is nothing to flush, waits to be woken.
func (s *subscriber) wait(ctx context.Context, alarm time.Duration) error {
	if s.dirty {
		s.dirty = false
		return s.conn.Flush()
	}
	if alarm > 0 {
		defer s.p.clock.after(alarm, s.poke)()
	}
	select {
	case <-s.wake:
	case <-ctx.Done():
	}
	return nil
}

// put writes framed bytes, which stay buffered until wait flushes.
func (s *subscriber) put(framed ...[]byte) error {
	s.told, s.dirty = true, true
	return s.conn.Write(framed...)
}

// send writes what matches of a run of chunks.
func (s *subscriber) send(ctx context.Context, st step) error {
	m := s.matcher()
	if m.none() {
		return nil
	}
	first, sent := true, 0
	for k, c := range st.chunks {
		i := 0
		if k == 0 {
			i = st.idx
		}
		for i < len(c.msgs) {
			if !m.all && !m.update(c.body(i)) {
				i++
				continue
			}
			if first && s.tooFar(c.msgs[i].received, c.last, st.since) {
				return s.skip(ctx, m, st)
			}
			first = false
			j := i + 1
			for j < len(c.msgs) && !m.all && m.update(c.body(j)) {
				j++
			}
			if m.all {
				j = len(c.msgs)
			}
			if err := s.put(c.frames(i, j)); err != nil {
				return err
			}
			sent += j - i
			i = j
		}
	}
	if sent > 0 {
		s.p.o.Metrics.Delivered.Add(float64(sent))
	}
	return nil
}
