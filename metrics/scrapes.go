package metrics

import (
	"context"
	"net/http"
	"sync"
	"time"
)

const (
	// maxScrapes is how many scrapes are answered at a time. So many more
	// as maxWaiting wait for scrapeWait at most; beyond, the answer is 503.
	maxScrapes = 8
	maxWaiting = 32
	scrapeWait = 5 * time.Second
	// slowScrape is how long a scraper may take over its answer while
	// others wait: then it is cut off.
	slowScrape = time.Second
)

// scrapes are the places for scrapers. Make it with newScrapes.
type scrapes struct {
	places chan struct{} // holds a token for each scrape being answered

	mu      sync.Mutex // guards the rest
	waiting int
	// idle is a stack: while one scraper is answered after the other, one
	// answer's memory does for all, and the others stay small.
	idle     []*answer
	answered map[*answer]*scraping
}

// scraping is one that is being answered.
type scraping struct {
	w     http.ResponseWriter
	since time.Time
	cut   bool // its connection was told to end
}

func newScrapes() *scrapes {
	s := &scrapes{places: make(chan struct{}, maxScrapes), answered: map[*answer]*scraping{}}
	for range maxScrapes {
		s.idle = append(s.idle, &answer{})
	}
	return s
}

// begin gives the memory for one answer, nil where there is none for too
// long. While it waits, those who have been slow for the longest are cut off.
func (s *scrapes) begin(ctx context.Context, w http.ResponseWriter) *answer {
	if !s.place(ctx) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.idle) - 1 // there is one for each place
	a := s.idle[n]
	s.idle = s.idle[:n]
	s.answered[a] = &scraping{w: w, since: time.Now()}
	return a
}

// end gives it back.
func (s *scrapes) end(a *answer) {
	clear(a.samples) // names that are forgotten are not held
	s.mu.Lock()
	delete(s.answered, a)
	s.idle = append(s.idle, a)
	s.mu.Unlock()
	<-s.places
}

// place waits for a place.
func (s *scrapes) place(ctx context.Context) bool {
	select {
	case s.places <- struct{}{}:
		return true
	default:
	}
	if !s.queue() {
		return false
	}
	defer s.unqueue()
	ctx, cancel := context.WithTimeout(ctx, scrapeWait)
	defer cancel()
	look := time.NewTicker(slowScrape / 8)
	defer look.Stop()
	for {
		s.cutSlowest()
		select {
		case s.places <- struct{}{}:
			return true
		case <-look.C:
		case <-ctx.Done():
			return false
		}
	}
}

func (s *scrapes) queue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == maxWaiting {
		return false
	}
	s.waiting++
	return true
}

func (s *scrapes) unqueue() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
}

// cutSlowest ends the connection of the scraper that has been taking its
// answer for the longest, if that is too long.
func (s *scrapes) cutSlowest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var slowest *scraping
	for _, one := range s.answered {
		if !one.cut && (slowest == nil || one.since.Before(slowest.since)) {
			slowest = one
		}
	}
	if slowest == nil || time.Since(slowest.since) < slowScrape {
		return
	}
	// Under the lock: the writer must not be used after its handler's end.
	slowest.cut = http.NewResponseController(slowest.w).SetWriteDeadline(time.Unix(1, 0)) == nil
}
