package main

import (
	"fmt"
	"math/rand/v2"

	"tbhist/internal/zmtp"
)

// cycle is how many different updates are made; more than that are these
// over again. It is far more than any of the programs looks back when it
// compresses.
const cycle = 200_000

// workload is the updates of many sensors: two noisy floats, a URL, times
// that change; about 216 bytes each.
type workload struct {
	things   int
	names    []string // of update i, i < cycle
	payloads [][]byte
	frames   [][]byte // made when first asked for
}

// workload gives the updates for so many Things; of those used last it is
// made once.
func (b *bench) workload(things int) *workload {
	if b.work[things] == nil {
		if b.work == nil || len(b.work) > 1 {
			b.work = map[int]*workload{}
		}
		b.work[things] = newWorkload(things)
	}
	return b.work[things]
}

// newWorkload makes the same updates whenever it is asked. Each Thing comes
// once in every turn of all Things, in an order of its own.
func newWorkload(things int) *workload {
	rnd := rand.New(rand.NewPCG(1, uint64(things)))
	w := &workload{things: things}
	var turn []int
	for i := range cycle {
		if i%things == 0 {
			turn = rnd.Perm(things)
		}
		k := turn[i%things]
		name := fmt.Sprintf("site.room%d.sensor%d", k%97, k)
		w.names = append(w.names, name)
		w.payloads = append(w.payloads, fmt.Appendf(nil,
			`{"type": "thing_update", "ns": "%s", "documentation_url": "http://wiki.example.org/sensors/%d", "data": {"luminance": %.14f, "ratio_busy": %.17f}, "ts": %.6f}`,
			name, k%50, 100*rnd.Float64(), rnd.Float64(), 1.795e9+float64(i)*0.001+0.0005*rnd.Float64()))
	}
	return w
}

// join appends something of each of the updates from and below to, in
// pieces of size updates.
func (w *workload) join(from, to, size int, appendTo func(dst []byte, name string, payload []byte) []byte) [][]byte {
	var pieces [][]byte
	for i := from; i < to; i += size {
		var piece []byte
		for j := i; j < min(i+size, to); j++ {
			piece = appendTo(piece, w.names[j%cycle], w.payloads[j%cycle])
		}
		pieces = append(pieces, piece)
	}
	return pieces
}

// framed gives one cycle as ZeroMQ frames.
func (w *workload) framed() [][]byte {
	if w.frames == nil {
		w.frames = w.join(0, cycle, pieceUpdates, func(dst []byte, _ string, payload []byte) []byte {
			return zmtp.AppendFrame(dst, payload, false)
		})
	}
	return w.frames
}
