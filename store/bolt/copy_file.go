package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"tbhist/internal/disk"
)

// newFile is a history file that is being written beside where it will be. It
// is a sink.
type newFile struct {
	path string
	file *file
	tx   *bbolt.Tx
	// in and pending are of the transaction: the bucket used last, and its bytes.
	name    string
	in      *bbolt.Bucket
	pending int
	arena   []byte
}

// newFileTx bounds the bytes of a transaction, and what is written between two
// syncs: more at once would keep a broker's commits on the same disk waiting.
const newFileTx = 8 << 20

// pairBytes is what a pair takes of memory until its transaction ends, roughly,
// beside its bytes.
const pairBytes = 64

// makeFile makes the file at path, in the place of what an earlier run left
// there.
func makeFile(path string) (*newFile, error) {
	if err := clearAside(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	n := &newFile{path: path}
	if n.file, err = openFileWith(path, &bbolt.Options{
		Timeout: lockWait, FreelistType: bbolt.FreelistArrayType, PageSize: pageSize, NoSync: true,
	}, inspectStart); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), os.Remove(path))
	}
	n.file.bolt.AllocSize = newFileTx
	if err := n.begin(); err != nil {
		return nil, errors.Join(err, n.discard())
	}
	for _, name := range allBuckets {
		if _, err := n.tx.CreateBucket(name); err != nil {
			return nil, errors.Join(err, n.discard())
		}
	}
	return n, nil
}

func (n *newFile) begin() (err error) {
	n.in, n.name, n.pending = nil, "", 0
	n.arena = make([]byte, 0, newFileTx)
	n.tx, err = n.file.bolt.Begin(true)
	return err
}

// put puts a pair; nothing of it is held on to.
func (n *newFile) put(bucket, key, value []byte) error {
	if n.in == nil || n.name != string(bucket) {
		b, err := n.tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		b.FillPercent = 1 // nothing comes between later, but for a few
		n.name, n.in = string(bucket), b
	}
	// bbolt holds on to values until the transaction ends.
	at := len(n.arena)
	n.arena = append(n.arena, value...)
	if err := n.in.Put(key, n.arena[at:len(n.arena):len(n.arena)]); err != nil {
		return err
	}
	if n.pending += len(key) + len(value) + pairBytes; n.pending < newFileTx {
		return nil
	}
	if err := n.commit(); err != nil {
		return err
	}
	return n.begin()
}

func (n *newFile) commit() error {
	tx := n.tx
	n.tx = nil
	return tx.Commit()
}

// finish makes the file durable and closes it; it gives its size.
func (n *newFile) finish() (size int64, err error) {
	if err := n.commit(); err != nil {
		return 0, err
	}
	if err := n.file.view(func(tx *bbolt.Tx) error {
		size = tx.Size()
		return nil
	}); err != nil {
		return 0, err
	}
	// What bbolt took ahead goes back.
	if err := n.file.os.Truncate(size); err != nil {
		return 0, err
	}
	if err := n.file.bolt.Sync(); err != nil {
		return 0, fmt.Errorf("sync %s: %w", n.path, err)
	}
	err = n.file.close()
	n.file = nil
	return size, err
}

// discard removes the file.
func (n *newFile) discard() error {
	var err error
	if n.tx != nil {
		err = n.tx.Rollback()
	}
	if n.file != nil {
		err = errors.Join(err, n.file.close())
	}
	if gone := os.Remove(n.path); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// moveTo puts the finished file in the place of what is at path, durably.
func (n *newFile) moveTo(path string) error {
	if err := os.Rename(n.path, path); err != nil {
		return err
	}
	if err := disk.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%s has its new contents, but a power cut may still bring back what it had: %w", path, err)
	}
	return nil
}

// wantSpace refuses to begin a copy of so many bytes that there is no room for.
func wantSpace(dir, what string, bytes int64) error {
	bytes = min(bytes, math.MaxInt64/2)
	need := bytes + bytes/3 + newFileTx // pages are not filled to their last byte
	free, ok := disk.Free(dir)
	if !ok || free >= need { // a full disk will tell
		return nil
	}
	return fmt.Errorf("%s needs about %d MiB of free space in %s, and there are %d MiB: make room, or use another disk",
		what, (need+1<<20-1)>>20, dir, free>>20)
}

// resolve follows symbolic links, so that what they point to is replaced and
// not they.
func resolve(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	return real, err
}
