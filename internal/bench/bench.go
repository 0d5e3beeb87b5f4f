package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// bench is what all rows share. Make it with newBench, and close it.
type bench struct {
	options
	progress io.Writer
	dir      string // for everything, removed at the end
	program  string // tbhist, built
	made     int    // directories
	work     map[int]*workload
}

// newBench builds the broker.
func newBench(ctx context.Context, o options, progress io.Writer) (*bench, error) {
	dir, err := os.MkdirTemp(o.dir, "tbhist-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, progress: progress, dir: dir, program: filepath.Join(dir, "tbhist")}
	if o.quick {
		b.rounds, b.scale = 1, 0.05
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", b.program, ".")
	build.Dir, err = repository()
	if o.profile != "" {
		build.Dir = filepath.Join(build.Dir, "internal", "bench")
		build.Args[len(build.Args)-1] = "./profiled"
		err = errors.Join(err, os.MkdirAll(o.profile, 0o755))
		b.profile, _ = filepath.Abs(o.profile) // as it is where there is no working directory
	}
	if err == nil {
		var out []byte
		if out, err = build.CombinedOutput(); err != nil {
			err = fmt.Errorf("building tbhist: %w: %s", err, out)
		}
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// repository finds the top of the repository, above the working directory.
func repository() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "tbhist").Output()
	if err != nil {
		return "", fmt.Errorf("run this with go -C internal/bench run . in the repository: %w", err)
	}
	return filepath.Clean(string(out[:len(out)-1])), nil
}

func (b *bench) close() error { return os.RemoveAll(b.dir) }

// count scales a number of updates as asked. It gives whole pieces.
func (b *bench) count(n int) int {
	n = int(float64(n) * b.scale)
	return max(n/pieceUpdates, 1) * pieceUpdates
}

// tempDir makes a directory for one process; remove gives its space back.
func (b *bench) tempDir(what string) (dir string, remove func(), err error) {
	b.made++
	dir = filepath.Join(b.dir, fmt.Sprintf("%s-%d", what, b.made))
	return dir, func() { _ = os.RemoveAll(dir) }, os.Mkdir(dir, 0o755) // close tries again
}
