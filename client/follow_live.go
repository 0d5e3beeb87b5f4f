package client

import "context"

// live hands on what comes on the feed, until history must be asked again:
// then it tells what heartbeats say was skipped.
func (f *follower) live(ctx context.Context) (skipReport, error) {
	for {
		item, err := f.hold.take(ctx)
		if err != nil {
			return skipReport{}, err
		}
		h, u := item.heartbeat, &item.update
		switch {
		case item.dropped:
			return skipReport{}, nil
		case h != nil && h.Epoch != f.epoch:
			return skipReport{}, errTwoHistories
		case h != nil && h.Skipped > 0 && h.SkippedTo > f.pos:
			var s skipReport
			s.add(h)
			return s, nil
		case h != nil:
			if h.Skipped > 0 && h.SkippedTo > f.read {
				// They were evicted while what came since was on its way.
				missing := h.Skipped - min(h.Skipped, f.gapped)
				f.gapped = h.Skipped
				if missing > 0 {
					if err := f.emit(Event{Kind: Gap, Missing: missing, More: f.more()}); err != nil {
						return skipReport{}, err
					}
				}
			}
			f.pos, f.head = max(f.pos, h.Seq), max(f.head, h.Seq)
		case u.Kept() && u.Seq <= f.pos:
		case u.Kept() && f.doubts(u):
			return skipReport{}, nil
		default:
			if u.Kept() {
				f.pos, f.head = u.Seq, max(f.head, u.Seq)
				f.things.step(u)
			}
			if !f.matches(u) {
				continue
			}
			if err := f.emit(Event{Kind: Updated, Update: *u, More: f.more()}); err != nil {
				return skipReport{}, err
			}
		}
	}
}

// doubts tells whether u shows that something before it did not come.
func (f *follower) doubts(u *Update) bool {
	if f.q.Name == "" && !f.q.Alone && u.Seq != f.pos+1 {
		return true
	}
	missing, known := f.things.missing(u)
	return known && missing > 0 && !f.byTS()
}

// more tells that the next item is there, and is an event.
func (f *follower) more() bool {
	item, ok := f.hold.peek()
	return ok && item.heartbeat == nil && !item.dropped && f.matches(&item.update) &&
		(!item.update.Kept() || item.update.Seq > f.pos)
}
