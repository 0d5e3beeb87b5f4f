package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"tbhist/internal/failpoint"
	"tbhist/store"
)

// backupSuffix names a file while it is made of a stream.
const backupSuffix = ".tmp"

// WriteBackup makes the history file of a backup stream at path, in the place
// of a file that is there: whole, or not at all. The file is marked as a copy:
// the first Open for serving gives it an epoch of its own. progress, unless
// nil, is told how many bytes of the stream were read, of about how many.
//
// Errors: ErrBadBackup, ErrBackupLost if there is a file that may have more, a
// *migrations.NewerError, store.ErrLocked if somebody has a history open at
// path, fs.ErrExist if somebody made one there meanwhile, too little free space,
// the context's (which is looked at between two reads of r), or what the system
// says. They leave what was at path as it was.
func WriteBackup(ctx context.Context, path string, r io.Reader, progress func(done, total int64)) (info BackupInfo, err error) {
	if path, err = resolve(path); err != nil {
		return info, err
	}
	unlock, there, err := lockReplaced(path)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	in := &streamReader{r: r}
	head, err := in.begin()
	if err != nil {
		return info, err
	}
	if err := wantSpace(filepath.Dir(path), "the backup "+path, head.about); err != nil {
		return info, err
	}
	n, err := makeFile(path + backupSuffix)
	if err != nil {
		return info, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.discard())
		}
	}()
	var totals *streamTotals
	for totals == nil {
		if err := context.Cause(ctx); err != nil {
			return info, err
		}
		if totals, err = in.next(n.put); err != nil {
			return info, err
		}
		report(progress, in.bytes, max(head.about, in.bytes))
	}
	copied := copyMark(time.Now())
	if err := n.put(copied.bucket, copied.key, copied.value); err != nil {
		return info, err
	}
	if _, err := n.finish(); err != nil {
		return info, err
	}
	if err := wantBackup(n.path, head, totals); err != nil {
		return info, err
	}
	lost := lostOf(totals.kept, totals.updates)
	if there && lost > 0 && !isEmpty(path) {
		return info, fmt.Errorf("%s of %s could not be read, and %s is left as it is: %w", grouped(lost), counted(totals.kept, "update"), path, ErrBackupLost)
	}
	failpoint.Hit("backup.swap")
	if _, err := os.Stat(path); !there && !errors.Is(err, fs.ErrNotExist) {
		return info, &fs.PathError{Op: "write", Path: path, Err: fs.ErrExist} // a history that somebody began meanwhile
	}
	if err := n.moveTo(path); err != nil {
		return info, err
	}
	report(progress, in.bytes, in.bytes)
	return BackupInfo{
		Epoch: head.epoch, Head: head.head, Things: int(totals.things), Updates: totals.updates, Lost: lost, Bytes: in.bytes,
	}, nil
}

// isEmpty tells that nothing is in a file, as in one that was made to have a
// name.
func isEmpty(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() == 0
}

// lockReplaced refuses to replace what is no file, and a history that somebody
// has open, as it would be lost to them; nobody opens it until unlock. there
// tells that there is one.
func lockReplaced(path string) (unlock func() error, there bool, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return func() error { return nil }, false, nil
	case err != nil:
		return nil, false, err
	case info.IsDir():
		return nil, false, &fs.PathError{Op: "write", Path: path, Err: syscall.EISDIR}
	case !info.Mode().IsRegular():
		return nil, false, fmt.Errorf("%s is no file that a backup could take the place of", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	free, err := lock(f, true)
	if err == nil && !free {
		err = fmt.Errorf("%s: %w", path, store.ErrLocked)
	}
	if err != nil {
		return nil, false, errors.Join(err, f.Close())
	}
	return f.Close, true, nil
}

// wantBackup opens a file that was made of a stream and holds it against what
// that said.
func wantBackup(path string, head streamHead, t *streamTotals) error {
	r, err := OpenReadOnly(path, Options{})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadBackup, err)
	}
	s := r.State()
	if err := r.Close(); err != nil {
		return err
	}
	if s.Epoch != head.epoch || s.Head != head.head || uint64(s.Things) != t.things || s.Updates != t.kept {
		return fmt.Errorf("%w: it was to be of epoch %s, up to seq %d, with %d Things and %d updates, and is of %s, up to %d, with %d and %d",
			ErrBadBackup, head.epoch, head.head, t.things, t.kept, s.Epoch, s.Head, s.Things, s.Updates)
	}
	return nil
}
