package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// upkeepBroker gives a client of a broker of which only the HTTP port is
// there; what it is asked but for its health goes to h.
func upkeepBroker(t *testing.T, token string, h http.HandlerFunc) *Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable) // degraded is there all the same
	})
	mux.HandleFunc("/api/", h)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{Broker: "127.0.0.1:" + strconv.Itoa(n-HTTPOffset), Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestForget(t *testing.T) {
	c := upkeepBroker(t, "the-token-of-the-broker", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != wire.PathForget ||
			r.Header.Get("Authorization") != "Bearer the-token-of-the-broker" || r.Header.Get("Origin") != "" {
			t.Errorf("%s %s %v, %v", r.Method, r.URL, r.Header, err)
		}
		q, err := wire.ParseForgetRequest(body)
		if err != nil || q != (wire.ForgetRequest{NS: "shop", Tree: true, DryRun: true}) {
			t.Errorf("asks %s, %v", body, err)
		}
		_, _ = io.WriteString(w, `{"things":2,"updates":7,"names":["shop.a","shop.b"],"new":"ignored"}`)
	})
	got, err := c.Forget(t.Context(), ForgetQuery{Name: "shop", Tree: true, DryRun: true})
	if want := (Forgotten{2, 7, []thing.Name{"shop.a", "shop.b"}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestStats(t *testing.T) {
	c := upkeepBroker(t, "", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.String() != wire.PathStats+"?depth=2&ns=shop" || r.Header["Authorization"] != nil {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		_, _ = io.WriteString(w, `{"epoch":"e1","head":9,"at":5.000001,"ns":"shop","depth":2,"file_bytes":10,"max_bytes":20,`+
			`"total":{"ns":"shop","things":1,"updates":3,"bytes":4,"oldest":1.5,"newest":2,"reach":90.5,"reach_of":"shop.a"},`+
			`"prefixes":[{"ns":"shop.a","things":1,"updates":3,"bytes":4,"oldest":null,"newest":null,"reach":null,"reach_of":null}]}`)
	})
	got, err := c.Stats(t.Context(), StatsQuery{Name: "shop", Depth: 2})
	a := thing.Name("shop.a")
	want := &Stats{
		Epoch: "e1", Head: 9, At: 5_000_001, Name: "shop", Depth: 2, FileBytes: 10, MaxBytes: 20,
		Total:    PrefixStats{Name: "shop", Things: 1, Updates: 3, Bytes: 4, Oldest: 1_500_000, Newest: 2_000_000, Reach: 90500 * time.Millisecond, ReachOf: &a},
		Prefixes: []PrefixStats{{Name: "shop.a", Things: 1, Updates: 3, Bytes: 4}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A backup that ends early is told from a whole one, whatever ended it.
func TestBackup(t *testing.T) {
	const half = "the first half, "
	for name, c := range map[string]struct {
		rest func(w http.ResponseWriter)
		err  string
	}{
		"whole":     {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "and the second") }, ""},
		"given up":  {func(w http.ResponseWriter) { w.Header().Set(wire.BackupError, "the file is damaged") }, "the broker says failed: the file is damaged"},
		"cut short": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "the connection to the broker is lost"},
	} {
		cl := upkeepBroker(t, "", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", wire.BackupError)
			_, _ = io.WriteString(w, half)
			_ = http.NewResponseController(w).Flush()
			c.rest(w)
		})
		r, err := cl.Backup(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := io.ReadAll(r)
		if !strings.HasPrefix(string(got), half) || (err == nil) != (c.err == "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBackupCancelled(t *testing.T) {
	c := upkeepBroker(t, "", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "x")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := c.Backup(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("reading on: %v", err)
	}
	_ = r.Close()
}

// What the broker says is in the error; what is no broker is told.
func TestUpkeepRefused(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		want   error
		text   string
	}{
		"forbidden":  {403, `{"type":"error","code":"forbidden","message":"not from here"}`, &BrokerError{Code: CodeForbidden, Message: "not from here"}, "the broker says forbidden: not from here"},
		"older":      {404, "404 page not found\n", ErrNoUpkeep, "older tbhist"},
		"no broker":  {418, "I am a teapot", nil, "is no broker (418 I'm a teapot)"},
		"redirected": {302, "", nil, "is no broker (302 Found)"},
		"nonsense":   {200, "I am a teapot", nil, "the broker's answer cannot be read"},
	} {
		cl := upkeepBroker(t, "", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		_, err := cl.Forget(t.Context(), ForgetQuery{Name: "a"})
		var broker *BrokerError
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %s", name, err, c.text)
		}
		if want, ok := c.want.(*BrokerError); ok && (!errors.As(err, &broker) || *broker != *want) || !ok && c.want != nil && !errors.Is(err, c.want) { //nolint:errorlint // it is what is wanted, no error met
			t.Errorf("%s: %#v", name, err)
		}
	}
}

// A broker that is not there is a NoBrokerError; one that is lost meanwhile is
// none, since what was asked may be done.
func TestUpkeepNoBroker(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is TCP
	deaden(t, ln)
	c, err := New(Options{Broker: "127.0.0.1:" + strconv.Itoa(port-HTTPOffset)})
	if err != nil {
		t.Fatal(err)
	}
	var none *NoBrokerError
	if _, err := c.Stats(t.Context(), StatsQuery{}); !errors.As(err, &none) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody there: %v", err)
	}
	c = upkeepBroker(t, "", func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	})
	if _, err := c.Forget(t.Context(), ForgetQuery{Name: "a"}); !errors.Is(err, ErrLost) || errors.As(err, &none) {
		t.Errorf("lost meanwhile: %v", err)
	}
}
