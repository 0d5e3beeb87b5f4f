package client

import "tbhist/thing"

// continuity knows where each Thing stands, and so sees by ThingSeq what is
// missing between two of its updates. It holds one number a Thing.
type continuity struct {
	// complete: everything is looked at from the first update of each Thing
	// on, so that a Thing not seen yet stands at 0.
	complete bool
	last     map[thing.Name]uint64
	bytes    int // that last takes, roughly
	most     int // maxKnown, but in tests
}

// maxKnown bounds the bytes of one continuity: some 3 million Things, or what
// makes up names. Beyond it nothing is known of where any stood.
const (
	maxKnown      = 256 << 20
	knownOverhead = 64 // of one Thing, beside its name
)

func newContinuity(complete bool) *continuity {
	return &continuity{complete: complete, last: map[thing.Name]uint64{}, most: maxKnown}
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
func (c *continuity) step(u *Update) {
	n := len(c.last)
	if c.last[u.Name] = u.ThingSeq; len(c.last) == n {
		return
	}
	if c.bytes += len(u.Name) + knownOverhead; c.bytes > c.most {
		c.forget()
		c.complete = false
	}
}

// forget makes all Things such as were not seen yet.
func (c *continuity) forget() { c.last, c.bytes = map[thing.Name]uint64{}, 0 }
