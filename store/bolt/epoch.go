package bolt

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// keyCopy is in the meta of a file that was made of another: it has that one's
// epoch, until it is opened for serving.
var keyCopy = []byte("copy")

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
	return was, now, errors.Join(meta.Put(keyEpoch, []byte(now)), meta.Delete(keyCopy))
}

// ownEpoch gives a copy an epoch of its own: from here on it is another
// history than the one it was made of, which may go on elsewhere.
func (db *DB) ownEpoch() error {
	copied := false
	if err := db.file.view(func(tx *bbolt.Tx) error {
		copied = tx.Bucket(bucketMeta).Get(keyCopy) != nil
		return nil
	}); err != nil || !copied {
		return err
	}
	var was, now string
	if err := db.update(false, func(tx *bbolt.Tx) (err error) {
		was, now, err = newEpoch(tx)
		return err
	}); err != nil {
		return err
	}
	db.log.Info("this history is a copy, and has an epoch of its own now", "epoch", now, "was", was)
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
			return err
		})
	})
	if errors.Is(err, errPanic) {
		f.broken = true
	}
	return was, now, errors.Join(err, f.close())
}
