package publish

import (
	"net/http"
)

// HTTPOptions are what the HTTP side shows.
type HTTPOptions struct {
	// Metrics answers /metrics; nil: 404.
	Metrics http.Handler
	// Health tells why the broker does not do its work, nil while it does; Ready
	// why it takes or gives nothing now. Either may be nil. Both are called
	// at each request, from any goroutine.
	Health, Ready func() error
	// Upkeep answers /api/v1/…; nil: 404.
	Upkeep *Upkeep
}

// HTTP gives the handler of the HTTP side: /metrics, /healthz, /readyz, and
// upkeep for those who may ask for it. /healthz and /readyz answer 200, or 503
// with the reason as text. A broker whose disk refuses commits is neither
// healthy nor ready.
func (p *Publisher) HTTP(o HTTPOptions) http.Handler {
	mux := http.NewServeMux()
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		report(w, reason(o.Health))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		why := reason(o.Health)
		if why == "" {
			why = reason(o.Ready)
		}
		if why == "" {
			if why = p.o.Store.State().Degraded; why != "" {
				why = "updates are not kept: " + why
			}
		}
		report(w, why)
	})
	if o.Upkeep != nil {
		p.handleUpkeep(mux, o.Upkeep)
	}
	return mux
}

func reason(check func() error) string {
	if check == nil {
		return ""
	}
	if err := check(); err != nil {
		return err.Error()
	}
	return ""
}

func report(w http.ResponseWriter, why string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	status := http.StatusOK
	if why != "" {
		status = http.StatusServiceUnavailable
	} else {
		why = "ok"
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(why + "\n")) // the asker may have gone
}
