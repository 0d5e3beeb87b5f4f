//go:build proof && linux

package proof

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// nobody is the user of the container image, docs/deploy/Containerfile.
const nobody = 65532

// The program runs where there is nothing but itself and /data, as a user
// without a name: as in an image made from scratch.
func TestFromScratch(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may change the root directory")
	}
	root := t.TempDir()
	static := filepath.Join(root, "tbhist")
	build := exec.Command("go", "build", "-trimpath", "-o", static, "tbhist")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building tbhist: %v\n%s", err, out)
	}
	data := filepath.Join(root, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(data, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) { // t.TempDir's are root's own
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inside := func(args ...string) *exec.Cmd {
		cmd := exec.Command("/tbhist", args...)
		cmd.Dir = "/data"
		cmd.Env = []string{"TBHIST_DB=/data/tbhist.db", "TMPDIR=/data"}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Chroot:     root,
			Credential: &syscall.Credential{Uid: nobody, Gid: nobody, NoSetGroups: true},
		}
		return cmd
	}
	serve := inside("serve", "--listen", "127.0.0.1:0")
	log, err := serve.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = serve.Process.Kill(); _ = serve.Wait() }()
	var said strings.Builder
	port := ""
	for buf := make([]byte, 4096); !strings.Contains(said.String(), "msg=ready"); {
		n, err := log.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v:\n%s", err, &said)
		}
	}
	if _, after, ok := strings.Cut(said.String(), "endpoint=feed addr=127.0.0.1:"); ok {
		port, _, _ = strings.Cut(after, "\n")
	}
	for _, args := range [][]string{{"send", "a.b", "1"}, {"health"}, {"get", "a.b"}, {"db", "backup", "/data/backup.db"}} {
		cmd := inside(append(args, "--broker", "tcp://127.0.0.1:"+port)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(log)
	if err := serve.Wait(); err != nil {
		t.Errorf("ends with %v:\n%s%s", err, &said, rest)
	}
	for _, name := range []string{"tbhist.db", "backup.db"} {
		if info, err := os.Stat(filepath.Join(data, name)); err != nil || info.Mode() != 0o600 || info.Sys().(*syscall.Stat_t).Uid != nobody {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	measured(t, "from scratch: as user %d with nothing but the program in the file system", nobody)
}
