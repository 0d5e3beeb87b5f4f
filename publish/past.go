package publish

import "time"

// pastParts is into how many parts of MaxLag the past is told.
const pastParts = 32

// past remembers where the feed's head was up to MaxLag ago, by a clock that
// does not step: when an update was received cannot tell how long it has been
// waiting once the time of day was set. Publisher.mu guards it.
type past struct {
	lag   time.Duration // MaxLag; nothing is remembered unless above 0
	spans []span        // oldest first
}

// span is a part of the past in which something was published.
type span struct {
	begin, end time.Time // of the first and the last batch in it
	head       uint64    // seq after the last
}

// note remembers that the head is there now. Batches less than a part of lag
// apart share a span, which has the time of the last: what is told is never
// older than it is.
func (p *past) note(now time.Time, head uint64) {
	if p.lag <= 0 {
		return
	}
	if n := len(p.spans); n > 0 && now.Sub(p.spans[n-1].begin) < p.lag/pastParts {
		p.spans[n-1].end, p.spans[n-1].head = now, head
		return
	}
	old := 0
	for old+1 < len(p.spans) && now.Sub(p.spans[old+1].end) >= p.lag {
		old++
	}
	p.spans = append(p.spans[:0], p.spans[old:]...)
	p.spans = append(p.spans, span{begin: now, end: now, head: head})
}

// head gives the newest seq known to have been published lag ago or earlier,
// 0 for none.
func (p *past) head(now time.Time) (seq uint64) {
	for _, s := range p.spans {
		if now.Sub(s.end) < p.lag {
			break
		}
		seq = s.head
	}
	return seq
}
