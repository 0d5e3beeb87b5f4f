package cli

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := notify(notifyReady); err != nil {
		t.Errorf("without systemd: %v", err)
	}
	dir, err := os.MkdirTemp("", "n") // names of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	paths := map[string]string{filepath.Join(dir, "s"): filepath.Join(dir, "s")}
	if runtime.GOOS == "linux" {
		paths["@"+dir+"/abstract"] = "\x00" + dir + "/abstract"
	}
	for env, path := range paths {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", env)
		if err := notify(notifyReady); err != nil {
			t.Errorf("%s: %v", env, err)
		}
		buf := make([]byte, 64)
		n, err := conn.Read(buf)
		if err != nil || string(buf[:n]) != "READY=1" {
			t.Errorf("%s: got %q, %v", env, buf[:n], err)
		}
		_ = conn.Close()
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "nobody"))
	if err := notify(notifyReady); err == nil {
		t.Error("nobody listens, and that is no error")
	}
}
