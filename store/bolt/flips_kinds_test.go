package bolt

import "math/rand/v2"

// damageKind is one way to damage a file. touched are the pages it was done to.
type damageKind struct {
	name string
	do   func(f *flipsFile, raw []byte, rnd *rand.Rand) (out []byte, touched []uint64)
}

func flipIn(raw []byte, rnd *rand.Rand, from, n int) []uint64 {
	var touched []uint64
	for range 1 + rnd.IntN(3) {
		at := from + rnd.IntN(n)
		raw[at] ^= 1 << rnd.IntN(8)
		touched = append(touched, uint64(at/pageSize))
	}
	return touched
}

// anyPage gives a page, most often one in use.
func (f *flipsFile) anyPage(rnd *rand.Rand) int {
	if rnd.IntN(5) > 0 {
		return int(f.inUse[rnd.IntN(len(f.inUse))])
	}
	return 2 + rnd.IntN(len(f.raw)/pageSize-2)
}

var damageKinds = []damageKind{
	{"bits anywhere", func(_ *flipsFile, raw []byte, rnd *rand.Rand) ([]byte, []uint64) {
		return raw, flipIn(raw, rnd, 0, len(raw))
	}},
	{"bits of a page", func(f *flipsFile, raw []byte, rnd *rand.Rand) ([]byte, []uint64) {
		return raw, flipIn(raw, rnd, f.anyPage(rnd)*pageSize, pageSize)
	}},
	{"page header", func(f *flipsFile, raw []byte, rnd *rand.Rand) ([]byte, []uint64) {
		return raw, flipIn(raw, rnd, f.anyPage(rnd)*pageSize, pageHeader)
	}},
	{"element headers", func(f *flipsFile, raw []byte, rnd *rand.Rand) ([]byte, []uint64) {
		at := f.anyPage(rnd)
		n := max(page(raw[at*pageSize:]).count(), 1)
		return raw, flipIn(raw, rnd, at*pageSize+pageHeader, min(n*pageElement, pageSize-pageHeader))
	}},
	{"meta pages", func(_ *flipsFile, raw []byte, rnd *rand.Rand) ([]byte, []uint64) {
		return raw, flipIn(raw, rnd, rnd.IntN(2)*pageSize, metaChecksum+8)
	}},
	{"freelist", func(f *flipsFile, raw []byte, rnd *rand.Rand) ([]byte, []uint64) {
		at := int(f.list) * pageSize
		return raw, flipIn(raw, rnd, at, pageHeader+8*page(raw[at:]).count())
	}},
	{"root page", func(f *flipsFile, raw []byte, rnd *rand.Rand) ([]byte, []uint64) {
		return raw, flipIn(raw, rnd, int(f.root[0])*pageSize, pageSize)
	}},
	{"a sector of zeroes", func(f *flipsFile, raw []byte, rnd *rand.Rand) ([]byte, []uint64) {
		at := f.anyPage(rnd)*pageSize + rnd.IntN(8)*512
		clear(raw[at : at+512])
		return raw, []uint64{uint64(at / pageSize)}
	}},
	{"two pages swapped", func(f *flipsFile, raw []byte, rnd *rand.Rand) ([]byte, []uint64) {
		a, b := f.anyPage(rnd), f.anyPage(rnd)
		x, y := raw[a*pageSize:(a+1)*pageSize], raw[b*pageSize:(b+1)*pageSize]
		for i := range x {
			x[i], y[i] = y[i], x[i]
		}
		return raw, []uint64{uint64(a), uint64(b)}
	}},
	{"cut off", func(_ *flipsFile, raw []byte, rnd *rand.Rand) ([]byte, []uint64) {
		n := rnd.IntN(len(raw))
		var touched []uint64
		for id := n / pageSize; id < len(raw)/pageSize; id++ {
			touched = append(touched, uint64(id))
		}
		return raw[:n], touched
	}},
	{"with junk behind it", func(_ *flipsFile, raw []byte, rnd *rand.Rand) ([]byte, []uint64) {
		for range rnd.IntN(20_000) {
			raw = append(raw, byte(rnd.Uint32()))
		}
		return raw, nil
	}},
}
