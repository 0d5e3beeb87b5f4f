//go:build proof

package proof

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// usage is what the broker's process takes at one instant.
type usage struct {
	anon        int64 // bytes of anonymous memory
	descriptors int
	goroutines  int
	hostile     int // connections of bad peers that hold theirs
}

// watch samples the usage until stopped.
type watch struct {
	stop func()
	done sync.WaitGroup

	mu  sync.Mutex // guards all
	all []usage
}

// watchUsage samples every quarter of a second, and scrapes the metrics, as
// a good peer does, once in four times.
func watchUsage(t *testing.T, g *good, hostile func() int) *watch {
	w := &watch{}
	quit := make(chan struct{})
	w.stop = sync.OnceFunc(func() {
		close(quit)
		w.done.Wait()
	})
	t.Cleanup(w.stop)
	w.done.Go(func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		goroutines := 0
		for i := 0; ; i++ {
			if i%4 == 0 {
				m, err := g.scrape()
				if err != nil {
					g.fails("scraping the metrics: %v", err)
				}
				goroutines = int(m["go_goroutines"])
			}
			u, err := usageOf(g.b.cmd.Process.Pid)
			if err != nil {
				g.fails("%v", err)
			}
			u.goroutines, u.hostile = goroutines, hostile()
			w.mu.Lock()
			w.all = append(w.all, u)
			w.mu.Unlock()
			select {
			case <-tick.C:
			case <-quit:
				return
			}
		}
	})
	return w
}

func usageOf(pid int) (u usage, err error) {
	if u.anon, err = procFigure(pid, "RssAnon"); err != nil {
		return u, err
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.descriptors = len(fds)
	return u, err
}

func (w *watch) now() usage {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.all) == 0 {
		return usage{}
	}
	return w.all[len(w.all)-1]
}

// take gives the samples so far and begins anew.
func (w *watch) take() []usage {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.all
	w.all = nil
	return all
}

// typical gives the median of each figure.
func typical(all []usage) usage {
	return of(all, func(sorted []int64) int64 { return sorted[len(sorted)/2] })
}

// most gives the largest of each figure.
func most(all []usage) usage {
	return of(all, func(sorted []int64) int64 { return sorted[len(sorted)-1] })
}

func of(all []usage, pick func(sorted []int64) int64) usage {
	figure := func(f func(u usage) int64) int64 {
		var values []int64
		for _, u := range all {
			values = append(values, f(u))
		}
		slices.Sort(values)
		return pick(values)
	}
	if len(all) == 0 {
		return usage{}
	}
	return usage{
		anon:        figure(func(u usage) int64 { return u.anon }),
		descriptors: int(figure(func(u usage) int64 { return int64(u.descriptors) })),
		goroutines:  int(figure(func(u usage) int64 { return int64(u.goroutines) })),
		hostile:     int(figure(func(u usage) int64 { return int64(u.hostile) })),
	}
}

func (u usage) String() string {
	return fmt.Sprintf("%d MiB, %d descriptors, %d goroutines", u.anon/mib, u.descriptors, u.goroutines)
}
