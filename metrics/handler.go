package metrics

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler answers a scrape, a few at a time, in the text format 0.0.4
// whatever else is asked for: every scraper takes it. First comes what is on
// the registry, then the series of the Things.
func (m *Metrics) Handler() http.Handler {
	h := &handler{
		registry: promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{
			ErrorHandling:      promhttp.ContinueOnError,
			DisableCompression: true, // the whole is compressed here
		}),
		things:  m.Things,
		scrapes: newScrapes(),
	}
	return h
}

type handler struct {
	registry http.Handler
	things   *Things
	scrapes  *scrapes
}

// answer is the memory of one scrape, used again by the next.
type answer struct {
	samples []ThingSample
	own     response
	text    textWriter
	zip     *gzip.Writer // nil until a scraper takes it
}

// ServeHTTP is part of http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := h.scrapes.begin(r.Context(), w)
	if a == nil {
		w.Header().Set("Connection", "close") // with what else it asks on it
		http.Error(w, fmt.Sprintf("%d scrapes are being answered, try again later", maxScrapes), http.StatusServiceUnavailable)
		return
	}
	defer h.scrapes.end(a)

	a.own.reset()
	h.registry.ServeHTTP(&a.own, plain(r))
	w.Header().Set("Content-Type", a.own.header.Get("Content-Type"))
	w.Header().Set("Vary", "Accept-Encoding")
	if a.own.status != http.StatusOK {
		w.WriteHeader(a.own.status)
		_, _ = w.Write(a.own.body.Bytes()) // the scraper may have gone
		return
	}
	var total int
	a.samples, total = h.things.take(a.samples[:0])
	if !takesGzip(r.Header.Values("Accept-Encoding")) {
		_ = a.write(w, total) // the scraper may have gone
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	if a.zip == nil {
		// Names repeat: the least effort leaves a tenth of them.
		a.zip, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is one
	}
	a.zip.Reset(w)
	defer a.zip.Reset(nil)
	if a.write(a.zip, total) == nil {
		_ = a.zip.Close() // the scraper may have gone
	}
}

// write writes the registry's answer and the Things.
func (a *answer) write(w io.Writer, total int) error {
	a.text.w, a.text.err = w, nil
	defer func() { a.text.w = nil }()
	a.text.buf = append(a.text.buf[:0], a.own.body.Bytes()...)
	writeThings(&a.text, a.samples, total)
	a.text.flush()
	return a.text.err
}

// plain is the request without its wishes about the form of the answer.
func plain(r *http.Request) *http.Request {
	p := *r
	p.Header = nil
	return &p
}

// takesGzip looks for gzip among the codings of Accept-Encoding that are not
// ruled out.
func takesGzip(accept []string) bool {
	for _, line := range accept {
		for coding := range strings.SplitSeq(line, ",") {
			name, weight, _ := strings.Cut(coding, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			q, found := strings.CutPrefix(strings.TrimSpace(weight), "q=")
			v, err := strconv.ParseFloat(q, 64)
			return !found || err == nil && v > 0
		}
	}
	return false
}

// response keeps the answer of the registry's handler.
type response struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *response) reset() {
	r.header, r.status = http.Header{}, http.StatusOK
	r.body.Reset()
}

// Header, WriteHeader and Write are http.ResponseWriter.
func (r *response) Header() http.Header         { return r.header }
func (r *response) WriteHeader(status int)      { r.status = status }
func (r *response) Write(p []byte) (int, error) { return r.body.Write(p) }
