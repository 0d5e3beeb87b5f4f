package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"tbhist/migrations"
	"tbhist/store"
)

// writableDir tells early what hinders a file from being written.
func writableDir(path string) error {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no directory %s for %s", dir, filepath.Base(path))
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no directory", dir)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory: name a file", path)
	}
	return nil
}

// noHistory refuses to let lines take the place of a history: of a broker's
// that runs, or of the one that they are read from.
func noHistory(path string) error {
	if !isHistory(path) {
		return nil
	}
	return fmt.Errorf("%s is a history, and lines would take its place: name another file", path)
}

// isHistory tells whether there is a history at path, in use or not.
func isHistory(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	_, err = migrations.Look(path)
	var newer *migrations.NewerError
	var older *migrations.OlderError
	return err == nil || errors.Is(err, store.ErrLocked) || errors.As(err, &newer) || errors.As(err, &older)
}

// wholeFile is a file that is there once it is whole: it has another name
// until then.
type wholeFile struct {
	*bufio.Writer
	path string
	f    *os.File
}

func newWholeFile(path string) (*wholeFile, error) {
	if err := writableDir(path); err != nil {
		return nil, err
	}
	if err := noHistory(path); err != nil {
		return nil, err
	}
	// A name that nobody else has: two may write at once, and each is whole.
	f, err := os.OpenFile(fmt.Sprintf("%s.%08x.tmp", path, rand.Uint32()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fileError(path, err)
	}
	return &wholeFile{Writer: bufio.NewWriterSize(f, 64<<10), path: path, f: f}, nil
}

// why says what hinders the file from being written; other errors are as they
// were.
func (w *wholeFile) why(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) && at.Path == w.f.Name() {
		return fileError(w.path, err)
	}
	return err
}

// finish gives the file its name, unless there was an error: then nothing is
// left of it.
func (w *wholeFile) finish(err error) error {
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = w.f.Sync()
	}
	err = errors.Join(err, w.f.Close())
	if err == nil {
		err = os.Rename(w.f.Name(), w.path)
	}
	if err != nil {
		return errors.Join(w.why(err), os.Remove(w.f.Name()))
	}
	// It is there; that it outlives a power cut is as good as the system.
	if dir, err := os.Open(filepath.Dir(w.path)); err == nil {
		_ = dir.Sync()
		_ = dir.Close()
	}
	return nil
}
