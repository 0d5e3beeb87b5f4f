package bolt

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// keyCopy is in the meta of a file that was made of another: it has that one's
// epoch, until it is opened for serving.
var keyCopy = []byte("copy")

// copyMark is what says so.
func copyMark(now time.Time) pair {
	return pair{bucketMeta, keyCopy, binary.BigEndian.AppendUint64(nil, uint64(now.UnixMicro()))}
}

func randomEpoch() (string, error) {
	epoch := make([]byte, 4)
	if _, err := rand.Read(epoch); err != nil {
		return "", err
	}
	return hex.EncodeToString(epoch), nil
}

// newEpoch gives the history another epoch.
func newEpoch(tx *bbolt.Tx) (was, now string, err error) {
	meta := tx.Bucket(bucketMeta)
	was = string(meta.Get(keyEpoch))
	for now = was; now == was; {
		if now, err = randomEpoch(); err != nil {
			return "", "", err
		}
	}
	return was, now, errors.Join(meta.Put(keyEpoch, []byte(now)), meta.Delete(keyCopy), meta.SetSequence(0))
}

// seqSpoiled is bbolt's sequence of the bucket meta in a file whose pages were
// mended while one of the two meta pages was damaged: afterwards both are whole.
const seqSpoiled = 1

// unknownEpoch stands for a damaged one where the file is only read.
const unknownEpoch = "00000000"

var errEpoch = errors.New("not an epoch")

// epochDoubt is why a history may not go on under its epoch.
type epochDoubt struct {
	// copied: it is another history than the one it was made of, which may go on
	// elsewhere.
	copied bool
	// spoiled: its newest commit may be gone. Seqs that clients saw would be given
	// again, to other updates.
	spoiled bool
	// damaged: the epoch itself.
	damaged bool
}

// doubtEpoch tells what speaks against the epoch of the open file.
func (db *DB) doubtEpoch() (d epochDoubt, err error) {
	err = db.file.view(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		d = epochDoubt{
			copied:  meta.Get(keyCopy) != nil,
			spoiled: db.file.spoiled || meta.Sequence() != 0,
			damaged: !validEpoch(meta.Get(keyEpoch)),
		}
		return nil
	})
	return d, err
}

// ownEpoch gives the history a new epoch where something speaks against the one
// that it has. At a start only: who runs on knows what it committed.
func (db *DB) ownEpoch() error {
	doubt, err := db.doubtEpoch()
	if err != nil || doubt == (epochDoubt{}) {
		return err
	}
	if doubt.spoiled && !db.file.spoiled { // a start before this one ended before it could say so
		db.setAside([]error{errMetaSpoiled})
	}
	if doubt.damaged {
		db.damage(damaged(bucketMeta, keyEpoch, errEpoch))
	}
	var was, now string
	if err := db.update(false, func(tx *bbolt.Tx) (err error) {
		was, now, err = newEpoch(tx)
		return err
	}); err != nil {
		return err
	}
	if doubt.spoiled || doubt.damaged {
		db.log.Warn("after damage this history has a new epoch: clients begin anew", "epoch", now, "was", was)
	} else {
		db.log.Info("this history is a copy, and has an epoch of its own now", "epoch", now, "was", was)
	}
	return nil
}

// NewEpoch gives the history at path a new epoch, for a copy that goes its own
// way, and tells the old and the new one. Nobody else may have it open. Errors:
// store.ErrLocked, store.ErrNotHistory, damage to the file's pages (a start mends
// that; to write before would spoil more), or what the system says.
func NewEpoch(path string) (was, now string, err error) {
	f, err := openExclusive(path)
	if err != nil {
		return "", "", err
	}
	if f.found != nil {
		return "", "", errors.Join(fmt.Errorf("%s was left as it is: it must be mended first, as a start does: %w", path, f.found[0]), f.close())
	}
	err = guard(func() error {
		return f.bolt.Update(func(tx *bbolt.Tx) error {
			fresh, err := isFresh(tx, path)
			if err == nil && fresh {
				err = notHistory(path)
			}
			if err == nil {
				was, now, err = newEpoch(tx)
			}
			if !validEpoch([]byte(was)) {
				was = unknownEpoch
			}
			return err
		})
	})
	if errors.Is(err, errPanic) {
		f.broken = true
	}
	return was, now, errors.Join(err, f.close())
}
