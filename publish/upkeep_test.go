package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"tbhist/internal/wire"
	"tbhist/store"
	"tbhist/thing"
)

const testToken = "a-token-of-32-characters-or-more"

// upkeepRig gives a handler with upkeep.
func upkeepRig(t *testing.T, u *Upkeep) http.Handler {
	t.Helper()
	return newRig(t, Options{}).HTTP(HTTPOptions{Upkeep: u})
}

// askUpkeep asks from an address; change may change the request.
func askUpkeep(h http.Handler, method, path, body, from string, change func(r *http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://localhost:7957"+path, strings.NewReader(body))
	r.RemoteAddr = from
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Who may ask: this machine, unless it may be a browser or a proxy; others
// with the token.
func TestUpkeepAccess(t *testing.T) {
	const here, here6, mapped, there = "127.0.0.1:5000", "[::1]:5000", "[::ffff:127.0.0.1]:5000", "192.168.1.7:5000"
	bearer := func(token string) func(r *http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	}
	header := func(name, value string) func(r *http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(h string) func(r *http.Request) { return func(r *http.Request) { r.Host = h } }
	both := func(a, b func(r *http.Request)) func(r *http.Request) {
		return func(r *http.Request) { a(r); b(r) }
	}
	for name, c := range map[string]struct {
		token, from string
		change      func(r *http.Request)
		want        int
	}{
		"here":                        {"", here, nil, 200},
		"here by IPv6":                {"", here6, host("[::1]:7957"), 200},
		"here, mapped":                {"", mapped, host("127.0.0.53"), 200},
		"here without a Host":         {"", here, host(""), 403},
		"here with another's token":   {testToken, here, bearer("another-broker's-token"), 200},
		"a page on this machine":      {"", here, header("Origin", "http://localhost:7957"), 403},
		"a page without an Origin":    {"", here, header("Sec-Fetch-Site", "none"), 403},
		"an empty Origin":             {"", here, header("Origin", ""), 403},
		"a page that knows the token": {testToken, here, both(bearer(testToken), header("Origin", "null")), 403},
		"a name that leads here":      {"", here, host("evil.example:7957"), 403},
		"a name like localhost":       {"", here, host("localhost.evil.example"), 403},
		"a name, with the token":      {testToken, here, both(bearer(testToken), host("pi.example")), 200},
		"a proxy here":                {"", here, header("X-Forwarded-For", "203.0.113.9"), 403},
		"a proxy here, token needed":  {testToken, here, header("Via", "1.1 x"), 401},
		"a proxy that adds nothing":   {"", here, func(r *http.Request) { r.Proto, r.ProtoMinor = "HTTP/1.0", 0 }, 403},
		"there, no token":             {"", there, nil, 403},
		"there, a token for none":     {"", there, bearer(testToken), 403},
		"there, an empty token":       {"", there, bearer(""), 403},
		"there, token needed":         {testToken, there, nil, 401},
		"there, as a browser asks it": {testToken, there, header("Authorization", "Basic dTpw"), 401},
		"there, another token":        {testToken, there, bearer(testToken + "x"), 401},
		"there, a beginning of it":    {testToken, there, bearer(testToken[:20]), 401},
		"there, the token":            {testToken, there, bearer(testToken), 200},
		"there, bearer in small":      {testToken, there, header("Authorization", "bearer "+testToken), 200},
		"nowhere":                     {testToken, "pipe", nil, 401},
	} {
		asked := false
		h := upkeepRig(t, &Upkeep{
			Token: c.token,
			Usage: func(context.Context, func(store.ThingUsage) bool) error { asked = true; return nil },
		})
		w := askUpkeep(h, http.MethodGet, wire.PathStats, "", c.from, c.change)
		if w.Code != c.want || asked != (c.want == 200) {
			t.Errorf("%s: %d, asked %v, want %d", name, w.Code, asked, c.want)
		}
		if w.Code == 200 {
			continue
		}
		var e wire.UpkeepError
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Type != "error" || e.Message == "" {
			t.Errorf("%s: answers %s", name, w.Body)
		}
		if strings.Contains(w.Body.String(), testToken) {
			t.Errorf("%s: the answer has the token", name)
		}
		if (w.Header().Get("WWW-Authenticate") != "") != (w.Code == 401) {
			t.Errorf("%s: headers %v", name, w.Header())
		}
	}
}

func TestUpkeepForget(t *testing.T) {
	type call struct {
		name         thing.Name
		tree, dryRun bool
	}
	var got *call
	gone, fails := store.Forgotten{}, error(nil)
	h := upkeepRig(t, &Upkeep{Forget: func(_ context.Context, name thing.Name, tree, dryRun bool) (store.Forgotten, error) {
		got = &call{name, tree, dryRun}
		return gone, fails
	}})
	ask := func(body string) (int, string) {
		t.Helper()
		got = nil
		w := askUpkeep(h, http.MethodPost, wire.PathForget, body, "127.0.0.1:1", nil)
		return w.Code, w.Body.String()
	}
	gone = store.Forgotten{Things: 2, Updates: 7, Names: []thing.Name{"shop.a", "shop.b"}}
	if code, body := ask(`{"ns": "shop", "tree": true}`); code != 200 || body != `{"things":2,"updates":7,"names":["shop.a","shop.b"]}`+"\n" || *got != (call{"shop", true, false}) {
		t.Errorf("%d %s for %v", code, body, got)
	}
	gone = store.Forgotten{}
	if code, body := ask(`{"ns": "", "dry_run": true}`); code != 200 || body != `{"things":0,"updates":0,"names":[]}`+"\n" || *got != (call{"", false, true}) {
		t.Errorf("%d %s for %v", code, body, got)
	}
	gone = store.Forgotten{Things: 3000, Names: make([]thing.Name, 3000)}
	var many wire.Forgotten
	if _, body := ask(`{"ns": "a"}`); json.Unmarshal([]byte(body), &many) != nil || many.Things != 3000 || len(many.Names) != wire.MaxForgottenNames {
		t.Errorf("%d names of %d Things are listed", len(many.Names), many.Things)
	}
	for body, want := range map[string]int{
		``:                          400,
		`{}`:                        400, // it does not mean the root
		`{"tree": true}`:            400,
		`{"ns": null, "tree":true}`: 400,
		`{"ns": "Shop"}`:            400,
		`{"ns": "shop.*"}`:          400,
		`{"ns": 5}`:                 400,
		`{"ns": "a", "dryrun": 1}`:  400,
		`{"ns": "a"} {}`:            400,
		`[]`:                        400,
		`{"ns": "` + strings.Repeat("a", wire.MaxUpkeepRequest) + `"}`: 413,
	} {
		if code, answer := ask(body); code != want || got != nil || !strings.Contains(answer, `"message"`) {
			t.Errorf("%.40s: %d %s, called %v", body, code, answer, got)
		}
	}
	cut := io.MultiReader(strings.NewReader(`{"ns": "shop"`), iotest.ErrReader(errors.New("read tcp 127.0.0.1:7957: i/o timeout")))
	r := httptest.NewRequest(http.MethodPost, "http://localhost"+wire.PathForget, cut)
	r.RemoteAddr = "127.0.0.1:1"
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 400 || strings.Contains(w.Body.String(), "tcp") {
		t.Errorf("a body that is cut: %d %s", w.Code, w.Body)
	}
	for err, want := range map[error]int{
		store.ErrClosed: 503,
		errors.New("the disk refuses commits: nothing can be forgotten now"): 500,
	} {
		fails = err
		if code, body := ask(`{"ns": "a"}`); code != want || !strings.Contains(body, `"message"`) {
			t.Errorf("%v: %d %s", err, code, body)
		}
	}
	if w := askUpkeep(h, http.MethodGet, wire.PathForget, "", "127.0.0.1:1", nil); w.Code != 405 || w.Header().Get("Allow") != "POST" {
		t.Errorf("GET: %d", w.Code)
	}
	for _, path := range []string{wire.PathStats, wire.PathBackup, "/api/v1/"} {
		if w := askUpkeep(h, http.MethodGet, path, "", "127.0.0.1:1", nil); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestUpkeepStats(t *testing.T) {
	r := newRig(t, Options{})
	now := r.clockWall()
	ago := func(d time.Duration) thing.Micros { return thing.MicrosOf(now.Add(-d)) }
	usage := []store.ThingUsage{
		{Name: "shop.a", Updates: 100, Bytes: 1000, Oldest: ago(100 * time.Second), Newest: ago(time.Second), Limit: store.Limit{Count: 1000}},
		{Name: "shop.b.c", Updates: 10, Bytes: 400, Oldest: ago(50 * time.Second), Newest: ago(0), Limit: store.Limit{Count: 100, Bytes: 800}},
		{Name: "shop", Updates: 1, Bytes: 5, Oldest: ago(time.Hour), Newest: ago(time.Hour)},
		{Name: "shopping", Updates: 3, Bytes: 6, Oldest: ago(time.Minute), Newest: ago(time.Minute), Limit: store.Limit{Age: time.Hour}},
	}
	h := r.HTTP(HTTPOptions{Upkeep: &Upkeep{
		Usage: func(_ context.Context, yield func(store.ThingUsage) bool) error {
			for _, u := range usage {
				if !yield(u) {
					return nil
				}
			}
			return nil
		},
		FileBytes: func() (int64, int64) { return 5000, 10000 },
	}})
	ask := func(query string) (s wire.Stats, rows string) {
		t.Helper()
		w := askUpkeep(h, http.MethodGet, wire.PathStats+query, "", "127.0.0.1:1", nil)
		if err := json.Unmarshal(w.Body.Bytes(), &s); w.Code != 200 || err != nil {
			t.Fatalf("%s: %d %s", query, w.Code, w.Body)
		}
		for _, p := range s.Prefixes {
			rows += string(p.NS) + " "
		}
		return s, rows
	}
	s, rows := ask("")
	if rows != "shop shopping " || s.FileBytes != 5000 || s.MaxBytes != 10000 || s.At != wire.Instant(thing.MicrosOf(now)) {
		t.Errorf("%+v", s)
	}
	shop := s.Prefixes[0]
	// shop.b.c reaches least: 400 bytes in 50 s, of 800.
	if shop.Things != 3 || shop.Updates != 111 || shop.Bytes != 1405 || shop.Oldest != wire.Instant(ago(time.Hour)) || shop.Newest != wire.Instant(ago(0)) ||
		time.Duration(shop.Reach).Round(time.Second) != 100*time.Second || *shop.ReachOf != "shop.b.c" {
		t.Errorf("shop: %+v", shop)
	}
	if s.Total.Things != 4 || s.Total.Updates != 114 || *s.Total.ReachOf != "shop.b.c" {
		t.Errorf("all: %+v", s.Total)
	}
	if time.Duration(s.Prefixes[1].Reach) != time.Hour {
		t.Errorf("shopping reaches %v", s.Prefixes[1].Reach)
	}
	if s, rows = ask("?ns=shop&depth=1"); rows != "shop shop.a shop.b " || s.Total.Things != 3 || s.Prefixes[0].ReachOf != nil || time.Duration(s.Prefixes[1].Reach).Round(time.Second) != 1000*time.Second {
		t.Errorf("shop: %s %+v", rows, s)
	}
	if _, rows = ask("?depth=9"); rows != "shop shop.a shop.b.c shopping " {
		t.Errorf("deep: %s", rows)
	}
	if s, rows = ask("?depth=0&ns=shop"); rows != "shop " || s.Prefixes[0].Things != 3 {
		t.Errorf("sum: %s", rows)
	}
	if s, rows = ask("?ns=none"); rows != "" || s.Prefixes == nil {
		t.Errorf("none: %+v", s)
	}
	for _, query := range []string{"?ns=Shop", "?depth=-1", "?depth=x", "?deep=1", "?depth=99999", "?depth=1&depth=2", "?ns=shop;x", "?ns=%zz"} {
		r := httptest.NewRequest(http.MethodGet, "http://localhost"+wire.PathStats, http.NoBody)
		r.URL.RawQuery, r.RemoteAddr = query[1:], "127.0.0.1:1"
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != 400 || strings.Contains(w.Body.String(), "refused: ") {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

// What the parts of a Thing's limit say of how far its ring reaches.
func TestReach(t *testing.T) {
	const now = thing.Micros(1000e6)
	for name, c := range map[string]struct {
		u    store.ThingUsage
		want time.Duration
	}{
		"nothing bounds it": {store.ThingUsage{Updates: 5, Bytes: 5, Oldest: 900e6}, 0},
		"full":              {store.ThingUsage{Updates: 50, Oldest: 900e6, Limit: store.Limit{Count: 50}}, 100 * time.Second},
		"half full":         {store.ThingUsage{Updates: 25, Oldest: 900e6, Limit: store.Limit{Count: 50}}, 200 * time.Second},
		"age":               {store.ThingUsage{Updates: 25, Oldest: 900e6, Limit: store.Limit{Count: 50, Age: time.Minute}}, time.Minute},
		"one of many":       {store.ThingUsage{Updates: 1, Bytes: 9, Oldest: 900e6, Limit: store.Limit{Count: 50, Bytes: 90}}, 0},
		"one of one":        {store.ThingUsage{Updates: 1, Bytes: 9, Oldest: 900e6, Limit: store.Limit{Count: 1}}, 100 * time.Second},
		"one that is all":   {store.ThingUsage{Updates: 1, Bytes: 90, Oldest: 900e6, Limit: store.Limit{Bytes: 45}}, 50 * time.Second},
		"from the future":   {store.ThingUsage{Updates: 5, Oldest: 2000e6, Limit: store.Limit{Count: 50}}, 0},
		"damaged":           {store.ThingUsage{Updates: 5, Limit: store.Limit{Count: 50}}, 0},
		"for ever":          {store.ThingUsage{Updates: 2, Oldest: 1, Limit: store.Limit{Count: 1 << 62}}, 1<<62 - 1},
	} {
		if got := reachOf(&c.u, now); got.Round(time.Millisecond) != c.want.Round(time.Millisecond) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// pipeServer serves a handler with the timeouts of the broker over pipes, in
// the time of a bubble. Its peers have no address.
func pipeServer(t *testing.T, h http.Handler) (get func() (*http.Response, error)) {
	t.Helper()
	ln := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: h, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		ln.conns <- far
		return near, nil
	}}
	return func() (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://broker"+wire.PathBackup, nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", "Bearer "+testToken)
		return transport.RoundTrip(r)
	}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	close(l.closed)
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// A backup takes longer than the server's timeouts, as long as it goes on.
func TestBackupTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		piece := bytes.Repeat([]byte("piece"), 50_000) // longer than what is written at once
		get := pipeServer(t, upkeepRig(t, &Upkeep{Token: testToken, Backup: func(ctx context.Context, w io.Writer) error {
			for range 10 {
				time.Sleep(50 * time.Second) //nolint:forbidigo // in a bubble of its own time
				if _, err := w.Write(piece); err != nil {
					return err
				}
			}
			return ctx.Err()
		}}))
		answer, err := get()
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		got, err := io.ReadAll(answer.Body)
		if err != nil || !bytes.Equal(got, bytes.Repeat(piece, 10)) || answer.Trailer.Get(wire.BackupError) != "" {
			t.Errorf("%d bytes, %v, trailer %v", len(got), err, answer.Trailer)
		}
	})
}

// Who takes nothing for a minute is given up, and others may ask then; not
// meanwhile.
func TestBackupStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 2)
		calls := 0
		get := pipeServer(t, upkeepRig(t, &Upkeep{Token: testToken, Backup: func(_ context.Context, w io.Writer) error {
			if calls++; calls > 1 {
				return nil
			}
			_, err := w.Write(make([]byte, 1<<20))
			ended <- err
			return err
		}}))
		stalled, err := get()
		if err != nil {
			t.Fatal(err)
		}
		defer stalled.Body.Close()
		busy, err := get()
		if err != nil || busy.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("a second backup: %v, %v", busy, err)
		}
		_ = busy.Body.Close()
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("it ended with %v", err)
		}
		synctest.Wait()
		again, err := get()
		if err != nil || again.StatusCode != http.StatusOK {
			t.Errorf("afterwards: %v, %v", again, err)
		}
		_ = again.Body.Close()
	})
}

// Who takes a backup slowly gets all of it, unless it is slower than the least
// rate; then it is given up, though it was faster before.
func TestBackupSlow(t *testing.T) {
	for name, c := range map[string]struct {
		pause time.Duration // before each backupPiece
		all   bool
	}{"at the least rate": {pieceTime, true}, "slower": {2 * pieceTime, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const fast, slow = 8 << 20, 8 << 20
				ended := make(chan error, 1)
				get := pipeServer(t, upkeepRig(t, &Upkeep{Token: testToken, Backup: func(_ context.Context, w io.Writer) error {
					_, err := w.Write(make([]byte, fast+slow))
					ended <- err
					return err
				}}))
				answer, err := get()
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				n, err := io.CopyN(io.Discard, answer.Body, fast)
				for err == nil {
					time.Sleep(c.pause) //nolint:forbidigo // in a bubble of its own time
					var m int64
					m, err = io.CopyN(io.Discard, answer.Body, backupPiece)
					n += m
				}
				if whole := errors.Is(err, io.EOF) && n == fast+slow; whole != c.all {
					t.Errorf("%d bytes came, then %v", n, err)
				}
				if err := <-ended; c.all != (err == nil) || !c.all && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("it ended with %v", err)
				}
			})
		})
	}
}

// What goes wrong at once is an answer; later it is in the trailer.
func TestBackupFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := 0
		get := pipeServer(t, upkeepRig(t, &Upkeep{Token: testToken, Backup: func(_ context.Context, w io.Writer) error {
			_, err := w.Write(make([]byte, before))
			return errors.Join(err, errors.New("the file is damaged"))
		}}))
		for _, before = range []int{0, 100_000} {
			answer, err := get()
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if before == 0 && (answer.StatusCode != 500 || !strings.Contains(string(body), "the file is damaged")) ||
				before > 0 && (len(body) != before || answer.Trailer.Get(wire.BackupError) != "the file is damaged") {
				t.Errorf("behind %d bytes: %s, %d bytes, trailer %v", before, answer.Status, len(body), answer.Trailer)
			}
		}
	})
}

// A question for the head alone makes no backup.
func TestBackupHead(t *testing.T) {
	h := upkeepRig(t, &Upkeep{Backup: func(context.Context, io.Writer) error {
		t.Error("a backup is made")
		return nil
	}})
	if w := askUpkeep(h, http.MethodHead, wire.PathBackup, "", "127.0.0.1:1", nil); w.Code != 405 {
		t.Errorf("HEAD: %d", w.Code)
	}
}
