package publish

import (
	"math"
	"time"

	"tbhist/internal/zmtp"
)

const (
	// partBytes is where a snapshot is cut into several messages.
	partBytes = 1 << 20
	// snapshotFresh is how old a snapshot may be, by its ts, to be sent to
	// one more subscriber that comes new.
	snapshotFresh = time.Second
	// snapshotAgain is the least time between two snapshots that one
	// connection gets for subscribing anew.
	snapshotAgain = time.Second
	// heldBytes bounds the older snapshots that slow subscribers are still
	// being sent.
	heldBytes = 32 << 20
	// idleShare: a snapshot made out of turn is followed by at least this
	// many times the time it took without another.
	idleShare = 4
)

// snapshot is one that was made, framed and shared by all it is sent to.
type snapshot struct {
	position uint64
	turn     uint64 // the last of snapshots.turn that it stands for
	made     time.Time
	stale    bool     // it has Things that were forgotten since; under Publisher.mu
	framed   [][]byte // each frame header with the message behind it
	bytes    int
	writers  map[*subscriber]struct{} // who is being sent it now
}

// snapshots are the newest one and who waits for the next. Publisher.mu
// guards it.
type snapshots struct {
	newest *snapshot
	// turn counts the rounds in which everybody gets one.
	turn uint64
	// While the snapshot of a turn is being made, those it is for go no
	// further than to position barrier, which it cannot be behind.
	inFlight bool
	barrier  uint64
	// notBefore bounds what snapshots out of turn cost.
	notBefore time.Time
	held      []*snapshot // older ones with writers, oldest first
	forgotten uint64      // counts Publisher.Forgotten
}

// snapWish is what one subscriber has coming.
type snapWish struct {
	armed  bool // the next subscription to snapshots brings one
	wanted bool // one is to be sent at once
	// asked is the newest position when it was wanted. A new snapshot that
	// reaches it will do, so that a thousand clients that reconnect share a
	// few; an older one would lack what was published before they asked.
	asked uint64
	turn  uint64 // the last turn that was served
	// notBefore bounds how often wanted is heard.
	notBefore time.Time
}

// passed gives the position of the newest batch that s has passed, if only
// in part. s is inside the window.
func (p *Publisher) passed(s *subscriber) uint64 {
	w := &p.window
	switch {
	case s.idx > 0:
		return w.at(s.next).batch
	case s.next > w.first:
		return w.at(s.next - 1).batch
	}
	return w.gone
}

// reached tells whether s has everything up to a position, given that it has
// nothing behind it.
func (p *Publisher) reached(s *subscriber, position uint64) bool {
	if s.next < p.window.next {
		return p.window.at(s.next).batch > position
	}
	return p.window.batch >= position
}

// coming tells what s, which is inside the window, is to get: one at once,
// or that of a turn.
func (p *Publisher) coming(s *subscriber, now time.Time) (wanted, owed bool) {
	if s.snaps == 0 {
		return false, false
	}
	return s.snap.wanted && !now.Before(s.snap.notBefore), s.snap.turn < p.snaps.turn
}

// answers tells whether a snapshot is what s wanted at once.
func (sn *snapshot) answers(s *subscriber, now time.Time) bool {
	return !sn.stale && sn.position >= s.snap.asked && now.Sub(sn.made) <= snapshotFresh
}

// usable tells whether the newest snapshot will do for s: it is of this
// turn, or what s wanted, and s has passed nothing that is not in it.
func (p *Publisher) usable(s *subscriber, now time.Time) bool {
	wanted, owed := p.coming(s, now)
	sn := p.snaps.newest
	return sn != nil && !sn.stale && p.passed(s) <= sn.position &&
		(owed && sn.turn == p.snaps.turn || wanted && sn.answers(s, now))
}

// planSnapshot decides about snapshots for s, which is inside the window:
// either it decides the step, or it gives the position that s may go on to.
func (p *Publisher) planSnapshot(s *subscriber, now time.Time, st *step) (limit uint64, decided bool) {
	wanted, owed := p.coming(s, now)
	if s.snaps > 0 && s.snap.wanted && !wanted {
		st.alarm = s.snap.notBefore.Sub(now)
	}
	if !wanted && !owed {
		return math.MaxUint64, false
	}
	w, sn := &p.window, p.snaps.newest
	if wanted && !s.told && sn != nil && sn.answers(s, now) {
		// It has seen nothing yet, so that it may as well begin there: further
		// back, or ahead if it could have subscribed then.
		if ord, ok := w.afterBatch(sn.position); ok && (ord <= s.next || !s.begun) {
			s.next, s.idx, s.after = ord, 0, w.head
			if ord < w.next {
				s.after = w.at(ord).base
			}
			if sn.position <= w.batch {
				p.grant(s, now, st)
				return 0, true
			} // else it is reached with the next batch
		}
	}
	if p.usable(s, now) {
		if p.reached(s, sn.position) {
			p.grant(s, now, st)
			return 0, true
		}
		return sn.position, false
	}
	if owed && p.snaps.inFlight {
		return p.snaps.barrier, false
	}
	if s.next == w.next || wanted && !s.told {
		wait := p.snaps.notBefore.Sub(now)
		if wait <= 0 {
			st.do = doMakeSnapshot
			return 0, true
		}
		if st.alarm == 0 || wait < st.alarm {
			st.alarm = wait
		}
	}
	return math.MaxUint64, false
}

// grant makes sending the newest snapshot the step.
func (p *Publisher) grant(s *subscriber, now time.Time, st *step) {
	sn := p.snaps.newest
	if s.snap.wanted {
		s.snap.wanted, s.snap.notBefore = false, now.Add(snapshotAgain)
	}
	s.snap.turn = max(s.snap.turn, sn.turn)
	sn.writers[s] = struct{}{}
	st.do, st.snapshot = doSnapshot, sn
}

// sendSnapshot writes the messages of a snapshot that match.
func (s *subscriber) sendSnapshot(sn *snapshot) error {
	defer s.p.sentSnapshot(s, sn)
	m := s.matcher()
	for i := 0; i < len(sn.framed); i += 2 {
		if !m.other(sn.framed[i+1]) {
			continue
		}
		if err := s.put(sn.framed[i], sn.framed[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (p *Publisher) sentSnapshot(s *subscriber, sn *snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(sn.writers, s)
}

// makeFor has a snapshot made out of turn, unless another one that will do
// was made while this one waited to.
func (p *Publisher) makeFor(s *subscriber) {
	p.making.Lock()
	defer p.making.Unlock()
	now := p.clock.now()
	p.mu.Lock()
	done := p.usable(s, now) || now.Before(p.snaps.notBefore)
	p.mu.Unlock()
	if !done {
		p.makeSnapshot()
	}
}

// snapshotAll sends a snapshot to everybody who wants them. One that is
// behind gets it, or a newer one, when it has caught up.
func (p *Publisher) snapshotAll() {
	p.making.Lock()
	defer p.making.Unlock()
	now := p.clock.now()
	p.mu.Lock()
	listeners := false
	for s := range p.subs {
		if s.snaps > 0 {
			listeners = true
			s.stand(now) // so that it does not pass the snapshot unseen
		}
	}
	if listeners {
		p.snaps.turn++
		p.snaps.inFlight, p.snaps.barrier = true, p.window.batch
	}
	p.mu.Unlock()
	if listeners {
		p.makeSnapshot()
	}
}

// makeSnapshot makes the newest snapshot and wakes those who wait for one.
// p.making is held.
func (p *Publisher) makeSnapshot() {
	began := p.clock.now()
	epoch := p.o.Store.State().Epoch
	p.mu.Lock()
	sn := &snapshot{turn: p.snaps.turn, writers: map[*subscriber]struct{}{}}
	head, forgotten := p.window.head, p.snaps.forgotten
	p.mu.Unlock()
	made := p.o.Directory.Snapshot(SnapshotOptions{
		Epoch: epoch, Now: micros(p.clock.wall()), Expire: p.o.SnapshotExpire, MaxPart: partBytes, Head: head,
	})
	sn.position, sn.bytes = made.Position, made.Bytes
	for _, f := range made.Frames {
		sn.framed = append(sn.framed, zmtp.AppendFrameHeader(nil, len(f), false), f)
	}
	sn.made = p.clock.now()
	took := sn.made.Sub(began)
	p.o.SnapshotMetrics.Observe(made.Bytes, took)

	p.mu.Lock()
	old := p.snaps.newest
	sn.stale = p.snaps.forgotten != forgotten
	p.snaps.newest, p.snaps.inFlight = sn, false
	p.snaps.notBefore = sn.made.Add(idleShare * took)
	for s := range p.subs {
		if s.snaps > 0 {
			s.poke()
		}
	}
	late := p.snaps.retire(old)
	p.mu.Unlock()
	for _, s := range late {
		p.o.Metrics.WriteDeadline.Inc()
		p.o.Logger.Warn("subscriber disconnected: it took too long over a snapshot", "source", s.conn.Remote())
		_ = s.conn.Close()
	}
}

// retire keeps account of the older snapshots that are still being sent. It
// names those to disconnect so that they do not pile up.
func (p *snapshots) retire(old *snapshot) (late []*subscriber) {
	if old != nil {
		p.held = append(p.held, old)
	}
	kept, bytes := p.held[:0], 0
	for _, sn := range p.held {
		if len(sn.writers) > 0 {
			kept, bytes = append(kept, sn), bytes+sn.bytes
		}
	}
	clear(p.held[len(kept):])
	p.held = kept
	for bytes > max(heldBytes, 2*p.newest.bytes) && len(p.held) > 0 {
		bytes -= p.held[0].bytes
		for s := range p.held[0].writers {
			late = append(late, s)
		}
		p.held[0] = nil
		p.held = p.held[1:]
	}
	return late
}
