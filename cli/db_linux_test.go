package cli

import (
	"path/filepath"
	"syscall"
	"testing"
)

// On a terminal a backup shows how far it is, and what it says at the end
// stands there alone; to the terminal itself it is not written.
func TestBackupOnTerminal(t *testing.T) {
	broker, begun := halfBackup(t, stall)
	term := newTerminal(t, 100, 24)
	cmd := command("db", "backup", filepath.Join(t.TempDir(), "backup.db"), "--broker", broker)
	cmd.Env, cmd.Stderr = cleanEnv(), term.slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-begun
	term.await(`copying \S+ of \S+, \d+ %.*/s`)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("it ends with %d", code)
	}
	term.await("tbhist: interrupted: no backup was made")

	cmd = command("db", "backup", "-", "--broker", broker)
	cmd.Env, cmd.Stdout = cleanEnv(), term.slave
	p, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	<-p.exited
	if p.code != 2 || p.log() != "tbhist: a backup is nothing to read on a terminal: name a file, or send it on with > or |\n" {
		t.Errorf("it ends with %d and says %s", p.code, p.log())
	}
}
