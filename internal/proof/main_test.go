//go:build proof

package proof

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// What TestMain found or built.
var (
	program    string // the built tbhist
	python     string // of the virtual environment with the peers
	prometheus string
	mosquitto  string // the folder with it
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(cutFolder); folder != "" {
		os.Exit(cutWriter(folder))
	}
	os.Exit(prepared(m))
}

func prepared(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tbhist-proof-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = prepare(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func prepare(dir string) error {
	program = filepath.Join(dir, "tbhist")
	build := exec.Command("go", "build", "-o", program, "tbhist")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building tbhist: %w\n%s", err, out)
	}
	peers := os.Getenv("TBHIST_PROOF_DIR")
	if peers == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		peers = filepath.Join(cache, "tbhist-proof")
	}
	python, prometheus = filepath.Join(peers, "venv", "bin", "python"), filepath.Join(peers, "prometheus")
	mosquitto = filepath.Join(peers, "mosquitto")
	for _, f := range []string{python, prometheus, filepath.Join(mosquitto, "mosquitto")} {
		if _, err := os.Stat(f); err != nil {
			return fmt.Errorf("the peers are not installed (bash internal/proof/setup.sh does it): %w", err)
		}
	}
	return nil
}

// measured prints the line that sums up a proof that has held so far.
func measured(t *testing.T, format string, args ...any) {
	t.Helper()
	if !t.Failed() {
		fmt.Printf("proof: "+format+"\n", args...)
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// cleanEnv is the environment without tbhist's variables and systemd's.
func cleanEnv() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "TBHIST_") && !strings.HasPrefix(e, "STATE_DIRECTORY=") && !strings.HasPrefix(e, "NOTIFY_SOCKET=") {
			env = append(env, e)
		}
	}
	return env
}

// procFigure reads a line "name: figure kB" of a process's status, in bytes.
func procFigure(pid int, name string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if figure, ok := strings.CutPrefix(line, name+":"); ok {
			var kb int64
			_, err := fmt.Sscan(figure, &kb)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of process %d", name, pid)
}

const mib = 1 << 20
