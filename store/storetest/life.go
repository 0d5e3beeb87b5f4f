package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

func testCancelled(t *testing.T, open Open) {
	f := newFixture(t, open, nil)
	const n, each = 50_000, 1000
	for i := range n / each {
		batch := make([]thing.Update, each)
		for j := range batch {
			batch[j] = at("a", i*each+j)
		}
		f.append(batch...)
	}
	f.inEachPlace(func() {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := f.e.Read(ended, store.Query{Tree: true}, func(*thing.Update) bool { return true })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Read with an ended context: %v", err)
		}
		_, err = f.e.AsOf(ended, store.AsOf{Tree: true, At: *micros(n)}, func(*store.PastEntry) bool { return true })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("AsOf with an ended context: %v", err)
		}
		err = f.e.Kept(ended, []thing.Name{"a"}, func(int, uint64, thing.Micros) {})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Kept with an ended context: %v", err)
		}
		// Append may take the batch or leave it, and says which.
		u := f.update("b", "1")
		got, err := f.e.Append(ended, copyBatch([]thing.Update{u}))
		switch {
		case err == nil && len(got) == 1:
			f.m.append([]thing.Update{u})
		case !errors.Is(err, context.Canceled):
			t.Errorf("Append with an ended context: %d committed, %v", len(got), err)
		}
		f.checkState()

		reading, cancel := context.WithCancel(t.Context())
		seen := 0
		_, err = f.e.Read(reading, store.Query{Tree: true}, func(*thing.Update) bool {
			if seen++; seen == 10 {
				cancel()
			}
			return true
		})
		cancel()
		if !errors.Is(err, context.Canceled) || seen >= n {
			t.Errorf("context ended at update 10 of %d: Read gave %d and %v", n, seen, err)
		}
	})
	f.check()
}

func testClosed(t *testing.T, open Open) {
	f := newFixture(t, open, nil)
	f.append(at("a", 1))
	f.close()
	for what, call := range map[string]func() error{
		"Append": func() error {
			_, err := f.e.Append(t.Context(), []thing.Update{at("a", 2)})
			return err
		},
		"Latest": func() error {
			return f.e.Latest(func(*thing.Update, []byte) bool { return true })
		},
		"Read": func() error {
			_, err := f.e.Read(t.Context(), store.Query{Tree: true}, func(*thing.Update) bool { return true })
			return err
		},
		"AsOf": func() error {
			_, err := f.e.AsOf(t.Context(), store.AsOf{Tree: true, At: *micros(5)}, func(*store.PastEntry) bool { return true })
			return err
		},
		"Kept": func() error {
			return f.e.Kept(t.Context(), []thing.Name{"a"}, func(int, uint64, thing.Micros) {})
		},
	} {
		if err := call(); !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", what, err)
		}
	}
	f.e.State() // says something, and does not panic
}

// Reads under way end with ErrClosed, and soon.
func testCloseEndsReads(t *testing.T, open Open) {
	f := newFixture(t, open, nil)
	for i := range 200 {
		f.append(at("a", i), at("b", i))
	}
	f.maintain()
	const readers = 4
	errs := make([]error, readers)
	var under, done sync.WaitGroup
	for i := range readers {
		under.Add(1)
		done.Go(func() {
			for first := true; errs[i] == nil; first = false {
				_, errs[i] = f.e.Read(t.Context(), store.Query{Tree: true}, func(*thing.Update) bool { return true })
				if first {
					under.Done()
				}
			}
		})
	}
	under.Wait()
	f.close()
	done.Wait()
	for _, err := range errs {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("Read while the history was closed: %v, want ErrClosed", err)
		}
	}
}

// Readers beside the writer and the work in the background see every update,
// once and in order.
func testReadersBesideAppend(t *testing.T, open Open) {
	f := newFixture(t, open, []store.Rule{{Prefix: "ring", Limit: store.Limit{Count: 50}}})
	const batches, each = 150, 40
	total := uint64(batches * each)
	var all sync.WaitGroup
	problems := make(chan string, 16)
	for reader := range 3 {
		all.Go(func() {
			if p := f.follow(total, 7+reader*90); p != "" {
				problems <- p
			}
		})
	}
	written := make(chan struct{})
	all.Go(func() {
		for done := false; !done; {
			select {
			case <-written:
				done = true
			default:
			}
			f.e.Maintain(t)
			if s := f.e.State(); s.Head > total {
				problems <- fmt.Sprintf("Head is %d of %d", s.Head, total)
				return
			}
		}
	})
	for b := range batches {
		batch := make([]thing.Update, each)
		for i := range batch {
			name := thing.Name("free")
			if i%4 == 0 {
				name = "ring"
			}
			batch[i] = at(name, b)
		}
		f.append(batch...)
	}
	close(written)
	all.Wait()
	close(problems)
	for p := range problems {
		t.Error(p)
	}
	f.check()
}

// follow reads the whole tree up to a Seq in pages while it is being
// written, and says what was wrong.
func (f *fixture) follow(upTo uint64, page int) (problem string) {
	var last, head, missing, free uint64
	for last < upTo {
		q := store.Query{Tree: true, After: last}
		n := 0
		p, err := f.e.Read(f.t.Context(), q, func(u *thing.Update) bool {
			if n == page {
				return false
			}
			n++
			if u.Seq <= last {
				problem = fmt.Sprintf("update %d came after %d", u.Seq, last)
			}
			if u.Name == "free" {
				if free++; u.ThingSeq != free {
					problem = fmt.Sprintf("update %d is number %d of its Thing, want %d", u.Seq, u.ThingSeq, free)
				}
			}
			missing += u.Seq - last - 1
			last = u.Seq
			return problem == ""
		})
		switch {
		case problem != "":
			return problem
		case err != nil:
			return fmt.Sprintf("after %d: %v", last, err)
		case p.Head < head || p.Head < last:
			return fmt.Sprintf("Head is %d, was %d, and %d was seen", p.Head, head, last)
		}
		head = p.Head
	}
	if ring := upTo / 4; missing > ring-50 {
		return fmt.Sprintf("%d updates were missing, %d at most were evicted", missing, ring-50)
	}
	return ""
}
