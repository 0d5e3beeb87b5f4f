//go:build proof

package proof

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	crashMaxDB = 64 * mib // segments of 4 MiB
	crashSlow  = 50
	crashLarge = 2
	crashBytes = 64 << 10 // of each Thing below "bytes"
)

// crashLimits are the limits that change from one start to another.
type crashLimits struct{ ring, bulk uint64 }

// What a broker may be started with.
var crashSets = []crashLimits{{400, 300}, {250, 200}}

func (l crashLimits) args() []string {
	return []string{
		"--log-level", "debug", // it says all that is evicted for the size of the file
		"--max-db", strconv.Itoa(crashMaxDB), "--ring", fmt.Sprint(l.ring),
		"--keep", fmt.Sprintf("bulk=%d slow=%d large=%d tide=unlimited bytes=unlimited,,%d", l.bulk, crashSlow, crashLarge, crashBytes),
	}
}

// floor gives the thing_seq from which on the limits keep what was read of a
// Thing.
func (l crashLimits) floor(t *crashThing) uint64 {
	root, _, _ := strings.Cut(string(t.name), ".")
	count := map[string]uint64{"bulk": l.bulk, "slow": crashSlow, "large": crashLarge, "tide": 0, "bytes": 0}
	n, ok := count[root]
	if !ok {
		n = l.ring
	}
	if root == "bytes" {
		return t.floorOfBytes(crashBytes)
	}
	if n == 0 || t.readLast < n {
		return 1
	}
	return t.readLast - n + 1
}

// floorOfBytes is the thing_seq from which on no more than limit bytes are
// kept: the newest always.
func (t *crashThing) floorOfBytes(limit uint64) uint64 {
	n := t.readLast
	for sum := uint64(0); n >= t.first; n-- {
		f := t.facts[n-t.first]
		if sum += uint64(f.size); f.seq == 0 || (sum > limit && n < t.readLast) {
			break // nobody knows what was never seen
		}
	}
	return n + 1
}
