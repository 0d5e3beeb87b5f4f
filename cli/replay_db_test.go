package cli

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A file answers as a broker with it does, and nothing in it changes: neither of one
// that was stopped nor of one that was killed.
func TestReplayFromDB(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		dir := t.TempDir()
		b := serve(t, dir, "--keep", "shop=7")
		send := adaptor(t, b.port)
		for i := range 30 {
			send("shop.a", map[string]any{"n": i})
			send("shop.b.c", i)
			send("other", fmt.Sprint(i))
		}
		awaitMetric(t, b, "tbhist_updates_evicted_total{cause=\"count\"}", "46")
		received := strings.Split(runs(t, "replay", "--after", "40", "--limit", "1", "--fields", "n", "--format", "csv", "--broker", b.broker), "\n")[1]
		received, _, _ = strings.Cut(received, ",")
		questions := [][]string{
			{},
			{"--ns", "shop"},
			{"--ns", "shop", "--tree=false"},
			{"--ns", "none"},
			{"--since", "1h"},
			{"--since", received},
			{"--until", received, "--strict"},
			{"--by", "ts", "--since", "2015-02-08", "--until", "2015-02-09"},
			{"--by", "ts", "--since", "2015-02-07", "--ns", "shop.a"},
			{"--since", "0"},
			{"--until", "0s"},
			{"--after", "50"},
			{"--after", "0", "--limit", "3"},
			{"--last", "2"},
			{"--last", "20", "--strict"},
			{"--last", "2", "--limit", "3", "--ns", "shop"},
			{"--strict"},
			{"--strict", "--after", "85"},
			{"--format", "text", "--utc"},
			{"--format", "csv", "--fields", "n"},
			{"--format", "csv"},
			{"--speed", "1000"},
		}
		ask := func(q, from []string) string {
			t.Helper()
			args := append(append([]string{"replay", "--format", "json"}, q...), from...)
			var stdout, stderr strings.Builder
			p := &program{stdout: &stdout, stderr: &stderr, now: time.Now} // a process each would take long
			code := p.run(args)
			return fmt.Sprintf("%s%s%d", stdout.String(), stderr.String(), code)
		}
		file := filepath.Join(dir, "tbhist.db")
		if got := ask(nil, []string{"--from-db", file}); !strings.Contains(got, "is in use by ") || !strings.HasSuffix(got, "\n1") {
			t.Errorf("of a file in use it says %s", got)
		}
		if signal == syscall.SIGKILL {
			b.kill()
		} else if _, err := b.end(signal); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, 0o400); err != nil {
			t.Fatal(err)
		}
		before := fileSum(t, file)
		var got []string
		for _, q := range questions {
			got = append(got, ask(q, []string{"--from-db", file}))
		}
		if after := fileSum(t, file); after != before {
			t.Errorf("after %v the file was %s, and is %s", signal, before, after)
		}
		if others, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(others) != 1 {
			t.Errorf("beside it there is %q, %v", others, err)
		}
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
		b = serve(t, dir, "--keep", "shop=7")
		for i, q := range questions {
			if want := ask(q, []string{"--broker", b.broker}); got[i] != want {
				t.Errorf("replay %q of a file prints\n%s\nits broker answers\n%s", q, got[i], want)
			}
		}
	}
}

func fileSum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x %s", sha256.Sum256(b), info.ModTime())
}

// A backup goes into another broker.
func TestReplayFromDBTo(t *testing.T) {
	dir := t.TempDir()
	b := serve(t, dir)
	send := adaptor(t, b.port)
	for i := range 10 {
		send("shop.a", i)
	}
	awaitMetric(t, b, "tbhist_history_updates", "10")
	if _, err := b.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	other := serve(t, t.TempDir())
	_, stderr, code := run(t, "replay", "--from-db", filepath.Join(dir, "tbhist.db"), "--as-is", "--to", other.broker)
	if code != 0 || stderr != "tbhist: 10 updates sent to "+other.broker+"\n" {
		t.Errorf("ends with %d and says %q", code, stderr)
	}
	got := runs(t, "replay", "--format", "json", "--broker", other.broker)
	for i := range 10 {
		want := fmt.Sprintf(`"ns": "shop.a", "data": %d, "ts": 1423351104.5, "documentation_url": "http://doc/shop.a", "seq": %d,`, i, i+1)
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}
