package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tbhist/client"
	"tbhist/internal/wire"
	"tbhist/thing"
)

// halfBackup serves the first half of a real backup, and then what rest does.
// begun is told when that half is sent.
func halfBackup(t *testing.T, rest func(w http.ResponseWriter, r *http.Request)) (broker string, begun <-chan struct{}) {
	t.Helper()
	b := serve(t, t.TempDir())
	send := adaptor(t, b.port)
	for i := range 200 {
		send(fmt.Sprintf("shop.t%d", i%5), strings.Repeat(itoa(i), 500))
	}
	awaitMetric(t, b, "tbhist_history_updates", "200")
	cl, err := client.New(client.Options{Broker: b.broker})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := cl.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Close()
	sent := make(chan struct{}, 9)
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc(wire.PathBackup, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(all[:len(all)/2])
		_ = http.NewResponseController(w).Flush()
		sent <- struct{}{}
		rest(w, r)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	port := s.Listener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is TCP
	return net.JoinHostPort("127.0.0.1", itoa(port-client.HTTPOffset)), sent
}

func stall(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// namesIn gives what a directory has.
func namesIn(t *testing.T, dir string) string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range all {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// A backup that is interrupted leaves nothing, and what had its name before.
func TestBackupInterrupted(t *testing.T) {
	broker, begun := halfBackup(t, stall)
	for _, old := range []string{"", "an older backup"} {
		dir, want := t.TempDir(), ""
		file := filepath.Join(dir, "backup.db")
		says := "tbhist: interrupted: no backup was made\n"
		if old != "" {
			if err := os.WriteFile(file, []byte(old), 0o600); err != nil {
				t.Fatal(err)
			}
			want, says = "backup.db", "tbhist: interrupted: no backup was made; "+file+" is as it was\n"
		}
		cmd := command("db", "backup", file, "--broker", broker)
		cmd.Env = cleanEnv()
		p, err := start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		<-begun
		if code, err := p.end(syscall.SIGINT); err != nil || code != 130 || p.log() != says {
			t.Errorf("it ends with %d, %v, and says %s", code, err, p.log())
		}
		if got := namesIn(t, dir); got != want {
			t.Errorf("there are %s, want %s", got, want)
		}
		if got, _ := os.ReadFile(file); string(got) != old {
			t.Errorf("%q became %q", old, got)
		}
	}
	// To standard output, what is made meanwhile goes, too.
	tmp := t.TempDir()
	cmd := command("db", "backup", "-", "--broker", broker)
	cmd.Env = append(cleanEnv(), "TMPDIR="+tmp)
	p, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	if code, err := p.end(syscall.SIGTERM); err != nil || code != 130 || p.log() != "tbhist: interrupted: what was written is no backup\n" {
		t.Errorf("it ends with %d, %v, and says %s", code, err, p.log())
	}
	if got := namesIn(t, tmp); got != "" {
		t.Errorf("there are %s", got)
	}
}

// A backup whose broker goes away is none, however it goes.
func TestBackupCut(t *testing.T) {
	for want, rest := range map[string]func(http.ResponseWriter, *http.Request){
		"the connection to the broker is lost": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"not a whole backup":                   func(http.ResponseWriter, *http.Request) {},
	} {
		broker, _ := halfBackup(t, rest)
		dir := t.TempDir()
		stdout, stderr, code := run(t, "db", "backup", filepath.Join(dir, "backup.db"), "--broker", broker)
		if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "tbhist: no backup was made: ") || !strings.Contains(stderr, want) {
			t.Errorf("it ends with %d and says %s", code, stderr)
		}
		if got := namesIn(t, dir); got != "" {
			t.Errorf("there are %s", got)
		}
	}
}

// A backup under load holds all up to its head, and nothing else.
func TestBackupUnderLoad(t *testing.T) {
	b := serve(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan struct{})
	send := adaptor(t, b.port)
	go func() {
		defer close(sent)
		for i := 0; i < 20_000 && ctx.Err() == nil; i++ {
			send(fmt.Sprintf("shop.t%d", i%50), i)
		}
	}()
	dir := t.TempDir()
	for i := range 3 {
		if _, stderr, code := run(t, "db", "backup", filepath.Join(dir, itoa(i)), "--broker", b.broker); code != 0 {
			t.Errorf("backup %d ends with %d: %s", i, code, stderr)
		}
	}
	cancel()
	<-sent
	all := runs(t, "replay", "--format", "json", "--broker", b.broker)
	for i := range 3 {
		file := filepath.Join(dir, itoa(i))
		runs(t, "db", "check", file)
		if got := runs(t, "db", "export", "--from-db", file); !strings.HasPrefix(all, got) || i > 0 && got == "" {
			t.Errorf("backup %d holds %d bytes that the broker does not have so", i, len(got))
		}
	}
}

// An export to a file that is interrupted leaves nothing.
func TestExportInterrupted(t *testing.T) {
	broker, accepted := silent(t)
	dir := t.TempDir()
	cmd := command("db", "export", filepath.Join(dir, "all.json"), "--broker", broker)
	cmd.Env = cleanEnv()
	p, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	<-accepted
	if code, err := p.end(syscall.SIGINT); err != nil || code != 130 ||
		p.log() != "tbhist: interrupted: nothing was exported; a file of that name is as it was\n" {
		t.Errorf("it ends with %d, %v, and says %s", code, err, p.log())
	}
	if got := namesIn(t, dir); got != "" {
		t.Errorf("there are %s", got)
	}
}

// An import that is interrupted while it waits for more says what stays, and
// that is what is there.
func TestImportInterrupted(t *testing.T) {
	db := filepath.Join(t.TempDir(), "new.db")
	cmd := command("db", "import", "-", "--db", db)
	cmd.Env = cleanEnv()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	line := []byte(`{"type": "thing_update", "ns": "a", "data": 1, "ts": 1.0, "documentation_url": null, "seq": 7, "thing_seq": 7, "received": 5.5}` + "\n")
	const lines = 10_000 // more than fits on the way
	if _, err := in.Write(bytes.Repeat(line, lines)); err != nil {
		t.Fatal(err)
	}
	code, err := p.end(syscall.SIGINT)
	if err != nil || code != 130 || !strings.HasPrefix(p.log(), "tbhist: interrupted: ") {
		t.Fatalf("it ends with %d, %v, and says %s", code, err, p.log())
	}
	said := 0
	if p.log() != "tbhist: interrupted: nothing was imported\n" {
		var n string
		if _, err := fmt.Sscanf(p.log(), "tbhist: interrupted: what came first (%s updates)", &n); err != nil {
			t.Fatalf("%v: %s", err, p.log())
		}
		if _, err := fmt.Sscan(strings.ReplaceAll(n, ",", ""), &said); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(db); err != nil && said == 0 {
		return
	}
	runs(t, "db", "check", db)
	if got := strings.Count(runs(t, "db", "export", "--from-db", db), "\n"); got != said || got > lines {
		t.Errorf("%d updates are there, %d were told", got, said)
	}
}

// A forget of which no answer comes may be done: that is said.
func TestForgetInterrupted(t *testing.T) {
	asked := make(chan struct{}, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc(wire.PathForget, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		asked <- struct{}{}
		<-r.Context().Done()
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	port := s.Listener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is TCP
	for args, want := range map[string]string{
		"shop":           "tbhist: interrupted: what was asked for may be done or not; tbhist things tells\n",
		"shop --dry-run": "tbhist: interrupted: nothing was forgotten\n",
	} {
		cmd := command(append([]string{"forget", "--broker", "127.0.0.1:" + itoa(port-client.HTTPOffset)}, strings.Fields(args)...)...)
		cmd.Env = cleanEnv()
		p, err := start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		<-asked
		if code, err := p.end(syscall.SIGINT); err != nil || code != 130 || p.log() != want {
			t.Errorf("%s ends with %d, %v, and says %s", args, code, err, p.log())
		}
	}
}

// From elsewhere the token is needed, and is nowhere to be read. What came
// through a proxy counts as from elsewhere.
func TestTokenOfBroker(t *testing.T) {
	const token = "0123456789abcdef-secret"
	dir := t.TempDir()
	config := filepath.Join(dir, "tbhist.yaml")
	if err := os.WriteFile(config, []byte("http-token: "+token+"\nlog-level: debug\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := serve(t, dir, "--config", config)
	runs(t, "send", "shop.a", "1", "--broker", b.broker)
	transport := &http.Transport{DisableKeepAlives: true}
	for bearer, want := range map[string]int{"": 401, "Bearer " + token + "x": 401, "Bearer " + token: 200} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+itoa(b.port+client.HTTPOffset)+wire.PathStats, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Via", "1.1 proxy")
		if bearer != "" {
			r.Header.Set("Authorization", bearer)
		}
		answer, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != want || strings.Contains(string(body), token) {
			t.Errorf("%q: %d %s, %v", bearer, answer.StatusCode, body, err)
		}
	}
	runs(t, "forget", "shop.a", "--broker", b.broker, "--token", "whatever-else")
	if _, err := b.await(`msg="upkeep refused" source=127\.0\.0\.1 path=/api/v1/stats reason=unauthorized`); err != nil {
		t.Error(err)
	}
	if strings.Contains(b.log(), token) {
		t.Error("the log has the token")
	}
}

func TestWorkingText(t *testing.T) {
	at := time.Unix(1e9, 0)
	for want, w := range map[string]*working{
		"copying":               {verb: "copying"},
		"copying 10MiB, 1MiB/s": {verb: "copying", done: 10 << 20},
		"copying 10MiB of 40MiB, 25 %, 30s left, 1MiB/s": {verb: "copying", done: 10 << 20, total: 40 << 20},
		"copying 10MiB of 10MiB, 100 %, 1MiB/s":          {verb: "copying", done: 10 << 20, total: 8 << 20},
		"importing updates: 1,000 of 1,000, 100 %, 100/s": {
			verb: "importing updates:", done: 1000, total: 1000, amount: func(n int64) string { return grouped(uint64(n)) },
		},
	} {
		if w.amount == nil {
			w.amount = formatSize
		}
		w.began = at
		if got := w.text(at.Add(10 * time.Second)); got != want {
			t.Errorf("it shows %q, want %q", got, want)
		}
	}
}

func TestRenames(t *testing.T) {
	long := strings.Repeat("a.", 500) + "a"
	for _, c := range []struct{ renames, name, want string }{
		{"", "shop.a", "shop.a"},
		{"shop=old.shop", "shop.a", "old.shop.a"},
		{"shop=old.shop", "shop", "old.shop"},
		{"shop=old.shop", "shopping", "shopping"},
		{"shop=", "shop.a.b", "a.b"},
		{"shop=", "shop", ""},
		{"=all", "shop.a", "all.shop.a"},
		{"=all", "", "all"},
		{"shop=x shop.a=y =z", "shop.a.b", "y.b"},
		{"shop=x shop.a=y =z", "shop.b", "x.b"},
		{"shop=x shop.a=y =z", "b", "z.b"},
		{"a=b.b.b.b.b.b.b.b.b.b.b.b.b.b", long, "too long"},
	} {
		rs, err := parseRenames(strings.Fields(c.renames))
		if err != nil {
			t.Fatal(err)
		}
		got, err := rs.of(thing.Name(c.name))
		if string(got) != c.want && (err == nil || c.want != "too long") {
			t.Errorf("%s: %s becomes %s, %v, want %s", c.renames, c.name, got, err, c.want)
		}
	}
}

// The longest line is taken, a longer one refused without holding it in
// memory, and what follows is read.
func TestImportLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "in")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	const most = 1 << 20
	for _, n := range []int{5, 300 << 10, most, most + 10, 7} {
		if _, err := io.Copy(f, io.LimitReader(letters{}, int64(n))); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("\r\n\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line, err := range (&importing{maxLine: most}).linesOf(t.Context(), file) {
		if err != nil {
			got = append(got, strings.TrimPrefix(err.Error(), file))
			continue
		}
		got = append(got, fmt.Sprintf("%d:%d", line.no, len(line.text)))
	}
	if want := fmt.Sprintf("1:5 3:%d 5:%d , line 7: %v 9:7", 300<<10, most, errLongLine); strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
}

type letters struct{}

func (letters) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

// Mistakes are told in one sentence, and end with 2; files that are none with
// 1, and none is made.
func TestUpkeepMistakes(t *testing.T) {
	clearEnv(t)
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"notes.txt": "This is no history.", "all.json": `{"type": "thing_update", "ns": "a", "data": 1, "ts": 1, "documentation_url": null, "received": 5}`} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"forget", 2, "forget takes the namespace of a Thing; tbhist things lists them; --root is the root Thing, --all everything"},
		{"forget ''", 2, "--all everything"},
		{"forget '' --tree", 2, "--all everything"},
		{"forget --all", 2, "--all forgets everything that the broker has: add --yes if that is meant, or --dry-run to see what would go"},
		{"forget --root --tree", 2, "all below the root is everything: --all says so"},
		{"forget --root x", 2, "forget takes one of"},
		{"forget --all --root", 2, "forget takes one of"},
		{"forget a b", 2, "forget takes one of"},
		{"forget shop.*", 2, `"shop.*" is not a namespace: a Thing with all below it is shop --tree`},
		{"forget Shop", 2, `"Shop" is not a namespace`},
		{"forget shop --format table", 2, `--format: "table" is neither text nor json`},
		{"db", 2, "db needs to know what to do; tbhist db --help lists it"},
		{"db bakcup", 2, `there is no command "db bakcup"; did you mean backup?; tbhist db --help lists them`},
		{"db backup", 2, "db backup takes the name of one file to write, or - for standard output; tbhist db backup --help"},
		{"db check a b", 2, "db check takes the name of one history file"},
		{"db check notes.txt --format csv", 2, `--format: "csv" is neither text nor json`},
		{"db stats x", 2, "see tbhist db stats --help"},
		{"db stats --depth -1", 2, `--depth: "-1" is not a number from 0`},
		{"db stats --format csv", 2, `--format: "csv" is neither table nor json`},
		{"db import", 2, "db import takes the files to import, - for standard input"},
		{"db import all.json --rename shop", 2, `--rename: "shop" is not OLD=NEW`},
		{"db import all.json --rename shop=A", 2, `"A" is not a namespace`},
		{"db import all.json --rename a=b --rename a=c", 2, "--rename: a is given twice"},
		{"db import all.json --max-db 1", 2, "--max-db: 1 is too small"},
		{"db export a b", 2, "db export takes the name of one file"},
		{"db export --from-db x --broker y", 2, "are both given"},
		{"db export --since never", 2, `--since: "never" is not a time`},
		{"things --watch --format json", 2, "--watch draws a table"},
		{"serve --http-token short-secret", 2, "--http-token: a token has 16 characters at least; openssl rand -hex 16 makes one"},
		{"serve --http-token a-sécret-of-umlauts", 2, "--http-token: a token has letters, digits and signs of ASCII"},

		{"db check notes.txt", 1, "notes.txt is not a tbhist history\n"},
		{"db compact notes.txt", 1, "notes.txt is not a tbhist history\n"},
		{"db new-epoch notes.txt", 1, "notes.txt is not a tbhist history\n"},
		{"db migrate notes.txt", 1, "notes.txt is not a tbhist history\n"},
		{"db import all.json --db notes.txt", 1, "notes.txt is not a tbhist history\n"},
		{"db check none.db", 1, "there is no file none.db\n"},
		{"db compact none.db", 1, "there is no file none.db\n"},
		{"db new-epoch none.db", 1, "there is no file none.db\n"},
		{"db migrate none.db", 1, "there is no file none.db\n"},
		{"db stats --from-db none.db", 1, "there is no file none.db\n"},
		{"db import none.json --db none.db", 1, "there is no file none.json\n"},
		{"db import all.json --db none/none.db", 1, "none"},
		{"db check .", 1, ". is a directory"},
		{"db compact .", 1, ". is a directory"},
		{"db backup . --broker 127.0.0.1:1", 1, ". is a directory: name a file\n"},
		{"db backup none/b.db --broker 127.0.0.1:1", 1, "there is no directory none for b.db\n"},
		{"db backup b.db --broker 127.0.0.1:1", 1, "no broker answers at tcp://127.0.0.1:1"},
		{"db export none/all.json --broker 127.0.0.1:1", 1, "there is no directory none for all.json\n"},
	} {
		var stdout, stderr strings.Builder
		p := &program{stdout: &stdout, stderr: &stderr, now: time.Now}
		code := p.run(words(c.args))
		if code != c.code || !strings.Contains(stderr.String(), c.says) || stdout.Len() > 0 || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s ends with %d, prints %q and says %s", c.args, code, stdout.String(), stderr.String())
		}
		if strings.Contains(stderr.String(), "secret") || strings.Contains(stderr.String(), "sécret") {
			t.Errorf("%s tells the secret", c.args)
		}
	}
	if got := namesIn(t, "."); got != "all.json notes.txt" {
		t.Errorf("there are %s", got)
	}
}
