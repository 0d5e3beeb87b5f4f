package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// What Prometheus sends with a scrape.
const (
	scraperAccept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
	scraperCoding = "gzip"
)

// scraper reads /metrics as Prometheus does, but looks at nothing.
type scraper struct {
	http *http.Client
	url  string
}

func (br *broker) scraper() *scraper {
	return &scraper{
		http: &http.Client{Transport: &http.Transport{DisableCompression: true}},
		url:  "http://" + br.addr(httpPort) + "/metrics",
	}
}

func (s *scraper) close() { s.http.CloseIdleConnections() }

// scrape gives the time until the whole answer was there, and the answer as
// it was sent.
func (s *scraper) scrape(ctx context.Context, coding string) (took time.Duration, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Accept", scraperAccept)
	if coding != "" {
		req.Header.Set("Accept-Encoding", coding)
	}
	var body bytes.Buffer
	start := time.Now()
	r, err := s.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	_, err = io.Copy(&body, r.Body)
	took = time.Since(start)
	_ = r.Body.Close() // it was read to its end, or failed
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("/metrics answers %s", r.Status)
	}
	return took, body.Bytes(), err
}

// scrapeUntil scrapes again and again until done is closed.
func (s *scraper) scrapeUntil(ctx context.Context, done <-chan struct{}) (took []time.Duration, err error) {
	for {
		select {
		case <-done:
			if len(took) == 0 {
				err = errors.New("no scrape came to its end")
			}
			return took, err
		default:
		}
		d, _, err := s.scrape(ctx, scraperCoding)
		if err != nil {
			return took, err
		}
		took = append(took, d)
	}
}
