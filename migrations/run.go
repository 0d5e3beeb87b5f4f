package migrations

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"tbhist/internal/disk"
	"tbhist/store"
)

// Plan is what Run would do with a file.
type Plan struct {
	// Found is the file's format, Current what it becomes. There is nothing to
	// do where they are the same.
	Found, Current uint32
	// Size is that of the file in bytes, Need how much free space its disk must
	// have: for the new file, and while there are several steps, for one
	// between.
	Size, Need int64
	// Kept is the name that the old file has afterwards.
	Kept string
}

// Options say how Run goes about it. The zero value will do.
type Options struct {
	// Progress, unless nil, is told how many bytes of one of several steps are
	// done, of about how many.
	Progress func(step, steps int, done, total int64)
}

// SpaceError tells that a disk has too little room for a migration.
type SpaceError struct {
	Dir        string
	Need, Free int64 // bytes
}

// Error says what is needed and what there is.
func (e *SpaceError) Error() string {
	return fmt.Sprintf("the disk of %s has %d bytes free, and %d are needed for the new file beside the old one", e.Dir, e.Free, e.Need)
}

// The keys of docs/FORMAT.md that no version may change.
var (
	bucketMeta = []byte("meta")
	keyFormat  = []byte("format")
)

const (
	pageSize = 4096
	lockWait = 500 * time.Millisecond
)

// Look tells what Run would do with the history at path. It changes nothing.
// Errors: store.ErrLocked while a broker has the file open,
// store.ErrNotHistory, a *NewerError, or what the system says.
func Look(path string) (*Plan, error) { return machine{steps, Current, disk.Free}.look(path) }

// Run brings the history at path up to Current: into path+".new", which then
// takes the place of the old file, while that is kept under the name in the
// Plan. Where there is nothing to do it does nothing. The context may end it:
// the old file is whole then and in its place, as after any error and any
// crash, but that a crash may leave the new file behind under its other name,
// until Run is called again.
//
// Errors: those of Look, a *SpaceError, fs.ErrExist if the name for the old
// file is taken, the context's, or what the system says.
func Run(ctx context.Context, path string, o Options) (*Plan, error) {
	return machine{steps, Current, disk.Free}.run(ctx, path, o)
}

// machine carries out steps; tests have others.
type machine struct {
	steps   []Step
	current uint32
	free    func(dir string) (bytes int64, ok bool)
}

func (m machine) look(path string) (*Plan, error) {
	src, err := openSource(path)
	if err != nil {
		return nil, err
	}
	p, _, err := m.planOf(src, path)
	return p, errors.Join(err, src.Close())
}

// planOf tells what is to be done with an open file.
func (m machine) planOf(src *bbolt.DB, path string) (*Plan, []Step, error) {
	found, err := formatOf(src, path)
	if err != nil {
		return nil, nil, err
	}
	steps, err := plan(m.steps, found, m.current)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	p := &Plan{Found: found, Current: m.current, Size: info.Size(), Kept: path + ".format-" + strconv.FormatUint(uint64(found), 10)}
	p.Need = p.Size * int64(min(len(steps), 2))
	return p, steps, nil
}

func (m machine) run(ctx context.Context, path string, o Options) (*Plan, error) {
	// Open all the while: no broker may write to the old file meanwhile.
	src, err := openSource(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = src.Close() }() // it was read only
	p, steps, err := m.planOf(src, path)
	if err != nil || len(steps) == 0 {
		return p, err
	}
	if err := m.room(path, p); err != nil {
		return nil, err
	}
	if err := p.nameFree(path); err != nil {
		return nil, err
	}
	made, err := runSteps(ctx, src, path, steps, o.Progress)
	if err == nil {
		err = p.swap(path, made)
	}
	if err != nil {
		return nil, errors.Join(err, removeMade(path))
	}
	return p, nil
}

// room refuses a disk that is too full.
func (m machine) room(path string, p *Plan) error {
	dir := filepath.Dir(path)
	if bytes, ok := m.free(dir); ok && bytes < p.Need {
		return &SpaceError{Dir: dir, Need: p.Need, Free: bytes}
	}
	return nil
}

// nameFree refuses to overwrite what has the name for the old file, unless
// that is the old file itself: then an earlier run was ended between keeping
// it and putting the new one in place.
func (p *Plan) nameFree(path string) error {
	kept, err := os.Lstat(p.Kept)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if now, err := os.Stat(path); err == nil && os.SameFile(kept, now) {
		return nil
	}
	return &fs.PathError{Op: "keep the old file as", Path: p.Kept, Err: fs.ErrExist}
}

// Names of files that are being made; two, since one is made from the other.
func madeNames(path string) [2]string { return [2]string{path + ".new", path + ".new2"} }

func removeMade(path string) error {
	var errs []error
	for _, name := range madeNames(path) {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// runSteps makes the new file, and gives its name; it is on disk then.
func runSteps(ctx context.Context, src *bbolt.DB, path string, steps []Step, progress func(step, steps int, done, total int64)) (made string, err error) {
	if err := removeMade(path); err != nil { // of a run that was killed
		return "", err
	}
	names := madeNames(path)
	for i, step := range steps {
		if err := ctx.Err(); err != nil {
			return "", context.Cause(ctx)
		}
		made = names[i%2]
		told := func(done, total int64) {
			if progress != nil {
				progress(i+1, len(steps), done, total)
			}
		}
		if err := runStep(ctx, src, names[(i+1)%2], made, i == 0, step, told); err != nil {
			return "", fmt.Errorf("from format %d to %d: %w", step.From, step.To, err)
		}
	}
	return made, nil
}

// runStep makes one file: the first of src, which is the history itself, others
// of the file made before, which is not needed then.
func runStep(ctx context.Context, src *bbolt.DB, before, made string, first bool, step Step, progress func(done, total int64)) (err error) {
	if !first {
		if src, err = openSource(before); err != nil {
			return err
		}
		defer func() {
			if err = errors.Join(err, src.Close()); err == nil {
				err = os.Remove(before)
			}
		}()
	}
	dst, err := bbolt.Open(made, 0o600, &bbolt.Options{Timeout: lockWait, PageSize: pageSize, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if err := guard(func() error { return step.Run(ctx, src, dst, progress) }); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	found, err := formatOf(dst, made)
	if err == nil && found != step.To {
		err = fmt.Errorf("the new file says it has format %d", found)
	}
	if err != nil {
		return err
	}
	return dst.Sync()
}

// swap keeps the old file under its other name, and puts the new one in its
// place. There is a whole file under path at any instant, but where the file
// system knows no links.
func (p *Plan) swap(path, made string) error {
	err := os.Link(path, p.Kept)
	switch {
	case err == nil, errors.Is(err, fs.ErrExist): // nameFree has looked at it
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.EPERM):
		if err := os.Rename(path, p.Kept); err != nil {
			return err
		}
		if err := os.Rename(made, path); err != nil {
			return errors.Join(err, os.Rename(p.Kept, path))
		}
		return disk.SyncDir(filepath.Dir(path))
	default:
		return err
	}
	if err := disk.SyncDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Rename(made, path); err != nil {
		return errors.Join(err, os.Remove(p.Kept))
	}
	return disk.SyncDir(filepath.Dir(path))
}

// openSource opens a history for reading, with a lock that keeps brokers off.
func openSource(path string) (*bbolt.DB, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	case !info.Mode().IsRegular(), info.Size() == 0: // bbolt would wait for the one and write to the other
		return nil, fmt.Errorf("%s: %w", path, store.ErrNotHistory)
	}
	var db *bbolt.DB
	var file *os.File // bbolt's own
	open := func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		file, err = os.OpenFile(name, flag, mode)
		return file, err
	}
	err = guard(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, PageSize: pageSize, ReadOnly: true, OpenFile: open})
		return err
	})
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, errDamaged):
		if file != nil { // a panic leaves it open, and locked
			err = errors.Join(err, file.Close())
		}
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%s: %w", path, store.ErrLocked)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		return nil, fmt.Errorf("%s: %w (%w)", path, store.ErrNotHistory, err)
	}
	return nil, err
}

// formatOf reads the format of a file.
func formatOf(db *bbolt.DB, path string) (format uint32, err error) {
	err = guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			meta := tx.Bucket(bucketMeta)
			if meta == nil || len(meta.Get(keyFormat)) != 4 {
				return fmt.Errorf("%s: %w", path, store.ErrNotHistory)
			}
			format = binary.BigEndian.Uint32(meta.Get(keyFormat))
			return nil
		})
	})
	return format, err
}

var errDamaged = errors.New("the file is damaged")

// guard makes an error of the panic that bbolt meets damage with.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return fn()
}
