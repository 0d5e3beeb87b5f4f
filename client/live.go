package client

import (
	"context"
	"time"

	"tbhist/internal/backoff"
	"tbhist/internal/wire"
)

// live keeps a Directory up to date over one connection after the other. All
// of it is on the goroutine of Run.
type live struct {
	d     *Directory
	retry backoff.Backoff
	heard bool // a message has come, ever

	// Of one connection:
	feed      *feed
	snapshots bool          // are subscribed to
	beats     bool          // a heartbeat has come: the broker is not an original one
	parts     wire.Snapshot // the last part, without its entries, of a snapshot in parts
}

// session listens over one connection until it is lost.
func (l *live) session(ctx context.Context) error {
	f, err := l.d.client.feed(ctx, l.d.name, true, true)
	if err != nil {
		return err
	}
	defer f.close()
	l.feed, l.snapshots, l.beats, l.parts = f, true, false, wire.Snapshot{}
	l.d.connected(f.at.url())
	defer lasted(&l.retry, time.Now())
	for {
		frame, err := f.frame(ctx)
		if err != nil {
			return err
		}
		l.heard = true
		if err := l.take(frame); err != nil {
			return lost(ctx, err)
		}
	}
}

// take takes one message over. Its error is that of the connection: no
// message ends a client.
func (l *live) take(frame []byte) error {
	m, err := wire.ParseMessage(frame)
	if err != nil || frame == nil || !validEpoch(m.Snapshot.Epoch) || !validEpoch(m.Heartbeat.Epoch) {
		l.d.change(func(s *DirectoryState) { s.Unreadable++ })
		return nil
	}
	switch m.Kind {
	case wire.KindUpdate:
		l.d.deliver(&m.Update, false)
	case wire.KindSnapshot:
		return l.snapshot(&m)
	case wire.KindHeartbeat:
		return l.heartbeat(&m.Heartbeat)
	}
	return nil
}

// snapshot takes over a snapshot, or a part of one.
func (l *live) snapshot(m *wire.Message) error {
	s := &m.Snapshot
	for i := range s.Entries {
		u := &s.Entries[i].Update
		u.Doc = s.Entries[i].Doc
		l.d.deliver(u, true)
	}
	whole := l.whole(s)
	l.d.change(func(state *DirectoryState) {
		state.Skipped += uint64(m.Skipped)
		state.Complete = state.Complete || whole
		if s.Epoch != "" {
			state.Epoch, state.Seq = s.Epoch, s.Seq
		}
	})
	if whole && l.partial() {
		return l.subscribe(false)
	}
	return nil
}

// whole tells whether s is a whole snapshot, or the last part of one of which
// all the others have come.
func (l *live) whole(s *wire.Snapshot) bool {
	if s.Entries == nil { // it had none to read
		return false
	}
	p := &l.parts
	if s.Part > 1 && (p.Part != s.Part-1 || p.Parts != s.Parts || p.TS != s.TS || p.Seq != s.Seq || p.Epoch != s.Epoch) {
		l.parts = wire.Snapshot{}
		return false
	}
	l.parts = wire.Snapshot{TS: s.TS, Seq: s.Seq, Epoch: s.Epoch, Part: s.Part, Parts: s.Parts}
	return s.Part == s.Parts
}

// heartbeat takes note of how the broker is.
func (l *live) heartbeat(h *wire.Heartbeat) error {
	first := !l.beats
	l.beats = true
	l.d.change(func(s *DirectoryState) {
		s.Epoch, s.Seq, s.Degraded = h.Epoch, h.Seq, h.Degraded
		s.Overtaken += h.Skipped
		s.Complete = s.Complete && h.Skipped == 0
	})
	switch {
	case !l.partial():
	case h.Skipped > 0:
		return l.subscribe(true)
	case first && l.d.State().Complete:
		return l.subscribe(false)
	}
	return nil
}

// partial tells that snapshots, which are of all Things, are more than is
// needed, once there was one. An original broker sends nothing else while
// the Things are quiet.
func (l *live) partial() bool { return l.beats && l.d.name != "" }

// subscribe begins or ends the subscription to snapshots. The broker sends
// one at once when it begins.
func (l *live) subscribe(on bool) error {
	if on == l.snapshots {
		return nil
	}
	l.snapshots = on
	if on {
		return l.feed.Subscribe([]byte(wire.SnapshotPrefix))
	}
	return l.feed.Cancel([]byte(wire.SnapshotPrefix))
}
