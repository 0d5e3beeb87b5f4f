package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, err
	}
	return &wholeFile{Writer: bufio.NewWriterSize(f, 64<<10), path: path, f: f}, nil
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
		err = os.Rename(w.path+".tmp", w.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(w.path+".tmp"))
	}
	// It is there; that it outlives a power cut is as good as the system.
	if dir, err := os.Open(filepath.Dir(w.path)); err == nil {
		_ = dir.Sync()
		_ = dir.Close()
	}
	return nil
}
