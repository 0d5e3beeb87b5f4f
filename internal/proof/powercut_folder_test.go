//go:build proof

package proof

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// folder is what is on the disk of a process: its files, and their names.
type folder struct {
	names   map[string]*disk // as the process sees them
	durable map[string]*disk // as they are on disk for certain
	// pending are changes of names that no sync of the folder has promised, in
	// their order.
	pending []naming
}

// naming is a file that gets a name, or another one, or none. It happens as a
// whole or not at all.
type naming struct {
	from, to string // "" for none
	file     *disk
}

func (n naming) in(names map[string]*disk) {
	delete(names, n.from)
	if n.to != "" {
		names[n.to] = n.file
	}
}

// readFolder takes the files that there are for what is on disk.
func readFolder(t *testing.T, path string) *folder {
	t.Helper()
	files, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	f := &folder{names: make(map[string]*disk)}
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(path, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		f.names[file.Name()] = &disk{durable: b, size: int64(len(b)), modes: []os.FileMode{info.Mode().Perm()}}
	}
	f.durable = maps.Clone(f.names)
	return f
}

// apply brings the folder along with one call.
func (f *folder) apply(c *call) error {
	file := f.names[c.file]
	switch c.kind {
	case callSaid:
	case callNamed:
		for _, n := range f.pending {
			n.in(f.durable)
		}
		f.pending = nil
	case callCreated:
		if file == nil {
			f.name(naming{to: c.file, file: &disk{modes: []os.FileMode{os.FileMode(c.off)}}})
		}
	default:
		if file == nil {
			return fmt.Errorf("the process used %s, and nobody made it", c.file)
		}
		switch c.kind {
		case callRenamed:
			f.name(naming{from: c.file, to: c.to, file: file})
		case callRemoved:
			f.name(naming{from: c.file})
		default:
			file.apply(c)
		}
	}
	return nil
}

func (f *folder) name(n naming) {
	n.in(f.names)
	f.pending = append(f.pending, n)
}

// leave makes the folder at path what a power cut leaves: of the names as many
// as their order has, or any.
func (f *folder) leave(t *testing.T, rnd *rand.Rand, path string) {
	t.Helper()
	names, inOrder, upTo := maps.Clone(f.durable), rnd.IntN(4) > 0, rnd.IntN(len(f.pending)+1)
	for i, n := range f.pending {
		if inOrder && i < upTo || !inOrder && rnd.IntN(2) == 0 {
			n.in(names)
		}
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, file := range names {
		if err := os.WriteFile(filepath.Join(path, name), file.cut(rnd), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(path, name), file.modes[rnd.IntN(len(file.modes))]); err != nil {
			t.Fatal(err)
		}
	}
}
