package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// floorBatch is how many updates the floor writes at a time.
const floorBatch = 2000

// floorPiece is the size of a bbolt value; larger ones cost it whole pages
// that are not full.
const floorPiece = 2000

// openFloor opens a bbolt file as a bare program would.
func openFloor(dir string) (*bbolt.DB, error) {
	db, err := bbolt.Open(filepath.Join(dir, "floor.db"), 0o644, &bbolt.Options{FreelistType: bbolt.FreelistMapType, PageSize: 4096})
	if err != nil {
		return nil, err
	}
	return db, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("floor"))
		return err
	})
}

// floorCommit commits value under new keys, which begin with n.
func floorCommit(db *bbolt.DB, n int, value []byte) error {
	return db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte("floor"))
		i := 0
		for piece := range slices.Chunk(value, floorPiece) {
			key := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, uint64(n)), uint32(i))
			if err := bucket.Put(key, piece); err != nil {
				return err
			}
			i++
		}
		return nil
	})
}

// floorBolt commits n updates in batches to a bare bbolt file.
func (b *bench) floorBolt(w *workload, n int) (time.Duration, error) {
	dir, remove, err := b.tempDir("bbolt")
	defer remove()
	if err != nil {
		return 0, err
	}
	db, err := openFloor(dir)
	if err != nil {
		return 0, err
	}
	batches := w.batches(n)
	start := time.Now()
	for i := range n / floorBatch {
		if err := floorCommit(db, i, batches[i%len(batches)]); err != nil {
			return 0, err
		}
	}
	return time.Since(start), db.Close()
}

// floorSync appends n updates in batches to a file, each with an fdatasync.
func (b *bench) floorSync(w *workload, n int) (took time.Duration, err error) {
	dir, remove, err := b.tempDir("fdatasync")
	defer remove()
	if err != nil {
		return 0, err
	}
	f, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		return 0, err
	}
	batches := w.batches(n)
	start := time.Now()
	for i := range n / floorBatch {
		if _, err := f.Write(batches[i%len(batches)]); err != nil {
			return 0, err
		}
		if err := datasync(f); err != nil {
			return 0, err
		}
	}
	return time.Since(start), f.Close()
}

// batches gives the bytes of the first n updates, or one cycle of them.
func (w *workload) batches(n int) [][]byte {
	return w.join(0, min(n, cycle), floorBatch, func(dst []byte, _ string, payload []byte) []byte {
		return append(dst, payload...)
	})
}
