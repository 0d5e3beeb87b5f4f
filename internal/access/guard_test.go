package access

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := strings.TrimSpace(l.String())
	l.Reset()
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

func TestGuardLogsOncePerAddressAndMinute(t *testing.T) {
	var out lines
	now := time.Unix(1e9, 0)
	counted := map[string]int{}
	g := NewGuard(mustParse(t, "local"), GuardOptions{
		Flag:    "--allow-input",
		Logger:  slog.New(slog.NewTextHandler(&out, nil)),
		Refused: func(listener string) { counted[listener]++ },
		Now:     func() time.Time { return now },
	})
	stranger, other := netip.MustParseAddr("::ffff:203.0.113.9"), netip.MustParseAddr("2001:db8::1")

	if !g.Admit("input", netip.MustParseAddr("127.0.0.1")) {
		t.Error("loopback was refused")
	}
	for range 5 {
		if g.Admit("input", stranger) {
			t.Error("a stranger was let in")
		}
	}
	g.Admit("udp", other)
	got := out.take()
	if len(got) != 2 {
		t.Fatalf("logged %q, want a line for each of two addresses", got)
	}
	for _, want := range []string{"level=WARN", "listener=input", "source=203.0.113.9", "reason=not_allowed", `allow_with="--allow-input local,203.0.113.9"`, "suppressed=0"} {
		if !strings.Contains(got[0], want) {
			t.Errorf("%q does not say %s", got[0], want)
		}
	}
	if counted["input"] != 5 || counted["udp"] != 1 {
		t.Errorf("counted %v", counted)
	}

	now = now.Add(time.Minute)
	g.Admit("input", stranger)
	if got = out.take(); len(got) != 1 || !strings.Contains(got[0], "suppressed=4") {
		t.Errorf("a minute later logged %q, want the 4 that were suppressed", got)
	}
}

func TestGuardedListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	list := mustParse(t, "192.0.2.1")
	refused := make(chan string, 1)
	g := NewGuard(list, GuardOptions{Flag: "--allow-output", Refused: func(l string) { refused <- l }})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "in") })}
	done := make(chan error)
	go func() { done <- srv.Serve(g.Listener("http", ln)) }()

	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes from a listener that does not let us in", n)
	}
	if got := <-refused; got != "http" {
		t.Errorf("counted for %q", got)
	}
	_ = conn.Close()
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}

	// The same with us on the list.
	if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	g = NewGuard(mustParse(t, "127.0.0.1"), GuardOptions{})
	srv = &http.Server{Handler: srv.Handler}
	go func() { done <- srv.Serve(g.Listener("http", ln)) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "in" {
		t.Errorf("got %q, %v", body, err)
	}
	_ = resp.Body.Close()
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

func TestThrottle(t *testing.T) {
	th := NewThrottle[int](time.Minute, 3)
	now := time.Unix(1e9, 0)
	pass := func(key int, wantOK bool, want uint64) {
		t.Helper()
		if got, ok := th.Pass(key, now); ok != wantOK || got != want {
			t.Errorf("key %d passed %v with %d suppressed, want %v with %d", key, ok, got, wantOK, want)
		}
	}
	for key := range 3 {
		pass(key, true, 0)
	}
	pass(0, false, 0)
	// No room: these two share one.
	pass(3, true, 0)
	pass(4, false, 0)
	if len(th.keys) != 3 {
		t.Errorf("%d keys are held, 3 are allowed", len(th.keys))
	}
	// The clock set back by an hour does not silence anybody for an hour.
	now = now.Add(-time.Hour)
	pass(0, true, 1)
	pass(0, false, 0)
	// After a quiet minute there is room again.
	now = now.Add(2 * time.Minute)
	pass(5, true, 0)
	pass(5, false, 0)
	now = now.Add(time.Minute)
	pass(5, true, 1)
}

// However many addresses come, memory is bounded and a full table does not
// make every event walk it.
func TestThrottleBounded(t *testing.T) {
	th := NewThrottle[int](time.Minute, 100)
	now := time.Unix(1e9, 0)
	passed := 0
	for key := range 100_000 {
		if _, ok := th.Pass(key, now); ok {
			passed++
		}
	}
	if passed != 101 || len(th.keys) != 100 {
		t.Errorf("%d passed and %d are held, want 101 and 100", passed, len(th.keys))
	}
}
