package publish

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// A page has the lines it was given, until there is no more room; the first
// always fits. How it is cut into pieces does not show.
func TestPage(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, room := range []int{1, 700, pieceBytes/2 - 1, pieceBytes / 2, 256 << 10, pieceBytes, 1 << 20, 4 << 20} {
		for _, longest := range []int{10, 5000, pieceBytes + 100} {
			p := page{room: room}
			var want []byte
			for count := uint64(0); ; count++ {
				line := bytes.Repeat([]byte{'a' + byte(count%26)}, rnd.IntN(longest))
				about := max(0, len(line)+rnd.IntN(50)-10) // an estimate may be too low
				fits := count == 0 || len(want)+len(line)+1 <= room
				if got := p.end(append(p.begin(about), line...)); got != fits || p.full == fits {
					t.Fatalf("room %d: line %d of %d bytes behind %d: %v, full %v", room, count, len(line), len(want), got, p.full)
				}
				if !fits {
					if p.count != count {
						t.Errorf("room %d: %d lines, want %d", room, p.count, count)
					}
					break
				}
				want = append(append(want, line...), '\n')
			}
			if got := bytes.Join(p.pieces, nil); !bytes.Equal(got, want) || p.bytes != len(want) {
				t.Errorf("room %d, lines up to %d: %d bytes, want %d", room, longest, len(got), len(want))
			}
			p.release()
		}
	}
}

// A short page holds what it needs: there may be thousands of them.
func TestShortPageTakesLittle(t *testing.T) {
	p := page{room: 700}
	for p.end(append(p.begin(100), "a line"...)) {
	}
	held := 0
	for _, piece := range p.pieces {
		held += cap(piece)
	}
	if len(p.lent) != 0 || held > 2*p.room {
		t.Errorf("%d bytes and %d pieces for a page of %d bytes", held, len(p.lent), p.room)
	}
}
