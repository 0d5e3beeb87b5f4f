package bolt

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"path/filepath"
	"reflect"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

// Where a question goes on comes back from whoever asked, who may have made
// it up with a sum that fits: it is refused, or a position like any other,
// and what is read from there is in order and within bounds.
func FuzzResume(f *testing.F) {
	db, err := Open(filepath.Join(f.TempDir(), "history.db"), Options{readBudget: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	const updates = 400
	for i := range updates / 4 {
		batch := []thing.Update{update("a", i), update("b.c", i), update("b", i), update("d", i)}
		if _, err := db.Append(f.Context(), batch); err != nil {
			f.Fatal(err)
		}
		if i == updates/8 {
			if err := db.Maintain(); err != nil {
				f.Fatal(err)
			}
		}
	}
	// Without version, epoch and sum, which are put to it.
	body := func(p position) []byte {
		b := p.append(db.epoch)
		return b[1+len(db.epoch) : len(b)-4]
	}
	f.Add(body(position{after: 7, given: 7, evicted: 0}), uint64(0))
	f.Add(body(position{after: 5, upTo: 300, from: map[uint32]uint64{0: 1, 1: 70, 3: 99}}), uint64(3))
	f.Add(body(position{after: 1 << 63, given: 1<<64 - 1, evicted: 1<<64 - 1}), uint64(0))
	f.Add([]byte{0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}, uint64(1))
	f.Fuzz(func(t *testing.T, body []byte, last uint64) {
		b := append([]byte{positionVersion}, db.epoch...)
		b = append(b, body...)
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
		p, ok := parsePosition(b, db.epoch, len(db.rings))
		if ok {
			if len(p.from) > len(db.rings) {
				t.Fatalf("bounds of %d Things, where there are %d", len(p.from), len(db.rings))
			}
			again, ok := parsePosition(p.append(db.epoch), db.epoch, len(db.rings))
			if !ok || !reflect.DeepEqual(again, p) {
				t.Fatalf("%+v became %+v", p, again)
			}
		}
		before, n := uint64(0), uint64(0)
		if ok {
			before = p.after
		}
		page, err := db.Read(t.Context(), store.Query{Tree: true, Last: last, Resume: b}, func(u *thing.Update) bool {
			if u.Seq <= before || u.Seq > updates {
				t.Fatalf("seq %d after %d", u.Seq, before)
			}
			before, n = u.Seq, n+1
			return true
		})
		switch {
		case errors.Is(err, store.ErrBadResume):
		case err != nil || !ok:
			t.Fatalf("read with %v, from a position that is taken: %v", err, ok)
		case page.Count != n || n > updates || len(page.Next) > 1<<20:
			t.Fatalf("%+v, of %d updates", page, n)
		}
	})
}
