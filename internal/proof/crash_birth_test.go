//go:build proof

package proof

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// birthWrites is more than a new file takes.
const birthWrites = 100

// A broker that is killed at any write of a new history file has an empty one
// after its next start.
func TestCrashAtBirth(t *testing.T) {
	program, err := crashProgram()
	if err != nil {
		t.Fatal(err)
	}
	port, killed := freePorts(t), 0
	for n := 1; ; n++ {
		b := &broker{t: t, db: filepath.Join(t.TempDir(), "tbhist.db"), port: port, program: program}
		b.under = struck(t, fmt.Sprintf("pwrite64:signal=SIGKILL:when=%d", n))
		if err := b.launch(); err != nil {
			t.Fatal(err)
		}
		err := b.awaitReady()
		b.kill()
		if err == nil {
			break
		}
		if killed = n; killed == birthWrites {
			t.Fatal("a new file takes no end of writes")
		}
		b.under = nil
		b.start()
		log := b.log.String()
		if !strings.Contains(log, "created, empty") && !strings.Contains(log, "opened, 0 Things, 0 updates") {
			t.Fatalf("killed at write %d: %s", n, log)
		}
		b.kill()
		if err := complaints(b.log.String()); err != nil {
			t.Fatalf("killed at write %d: %v", n, err)
		}
	}
	if killed < 2 {
		t.Errorf("killed at %d writes only", killed)
	}
	measured(t, "killed at each of the %d writes that a new file takes, and started again", killed)
}

// struck is what runs a program so that a system call fails, or kills it, as
// strace takes it.
func struck(t *testing.T, how string) []string {
	t.Helper()
	call, _, _ := strings.Cut(how, ":")
	return []string{strace(t), "-D", "-f", "-qq", "-o", os.DevNull, "-e", "trace=" + call, "-e", "inject=" + how}
}
