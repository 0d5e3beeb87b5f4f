package publish

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHTTP(t *testing.T) {
	r := newRig(t, Options{})
	var health, ready error
	h := r.HTTP(HTTPOptions{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("tbhist_things 0\n")) }),
		Health:  func() error { return health },
		Ready:   func() error { return ready },
	})
	get := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		return w.Code, w.Body.String()
	}
	want := func(path string, status int, body string) {
		t.Helper()
		if code, got := get(http.MethodGet, path); code != status || !strings.Contains(got, body) {
			t.Errorf("%s: %d %q, want %d %q", path, code, got, status, body)
		}
	}
	want("/healthz", 200, "ok\n")
	want("/readyz", 200, "ok\n")
	want("/metrics", 200, "tbhist_things")
	want("/debug/pprof/", 404, "")
	want("/", 404, "")
	if code, _ := get(http.MethodPost, "/healthz"); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", code)
	}
	ready = errors.New("starting")
	want("/readyz", 503, "starting")
	want("/healthz", 200, "ok")
	ready = nil
	r.h.set(func(h *fakeHistory) { h.degraded = "no space left on device" })
	want("/readyz", 503, "no space left on device")
	want("/healthz", 200, "ok")
	health = errors.New("the pipeline has ended")
	want("/healthz", 503, "the pipeline has ended")
	want("/readyz", 503, "the pipeline has ended")
}
