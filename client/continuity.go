package client

import "tbhist/thing"

// continuity knows where each Thing stands, and so sees by ThingSeq what is
// missing between two of its updates. It holds one number a Thing.
type continuity struct {
	// complete: everything is looked at from the first update of each Thing
	// on, so that a Thing not seen yet stands at 0.
	complete bool
	last     map[thing.Name]uint64
}

func newContinuity(complete bool) *continuity {
	return &continuity{complete: complete, last: map[thing.Name]uint64{}}
}

// missing tells how many updates of the Thing there are between the last one
// stepped to and u. known is false where it is not known where the Thing
// stood: then they are so many at most. A ThingSeq that does not rise is
// that of a Thing that was forgotten and has begun anew.
func (c *continuity) missing(u *Update) (n uint64, known bool) {
	last, seen := c.last[u.Name]
	if u.ThingSeq <= last {
		last = 0
	}
	return u.ThingSeq - min(u.ThingSeq, last+1), seen || c.complete
}

// step goes to u.
func (c *continuity) step(u *Update) { c.last[u.Name] = u.ThingSeq }

// forget makes all Things such as were not seen yet.
func (c *continuity) forget() { clear(c.last) }
