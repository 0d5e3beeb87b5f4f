package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"tbhist/client"
	"tbhist/directory"
	"tbhist/internal/wire"
	"tbhist/store"
	"tbhist/thing"
)

// listed gives the Things that the directory has.
func listed(b runningBroker, name thing.Name) (names []thing.Name) {
	b.directory.Walk(nil, name, true, func(e *directory.Entry) bool {
		names = append(names, e.Update.Name)
		return true
	})
	return names
}

// What is forgotten is gone from directory, snapshots, history and the number
// of Things alike, over a restart too, and begins anew.
func TestBrokerForget(t *testing.T) {
	db := t.TempDir() + "/t.db"
	b, stop := runBroker(t, nil, "--db", db, "--max-things", "4")
	feed := listening(t, b.sockets.port())
	send := adaptor(t, b.sockets.port())
	for i := range 3 {
		for _, ns := range []string{"shop", "shop.lamp", "shop.lamp.left", "other"} {
			send(ns, i)
		}
	}
	for range 12 {
		feed.next(t, wire.KindUpdate)
	}
	dry, err := b.forget(t.Context(), "shop.lamp", true, true)
	if err != nil || dry.Things != 2 || dry.Updates != 6 || len(listed(b, "")) != 4 {
		t.Errorf("a dry run says %+v, %v", dry, err)
	}
	gone, err := b.forget(t.Context(), "shop.lamp", true, false)
	if err != nil || gone.Things != 2 || gone.Updates != 6 || !slices.Equal(gone.Names, []thing.Name{"shop.lamp", "shop.lamp.left"}) {
		t.Errorf("forgotten is %+v, %v", gone, err)
	}
	if names := listed(b, ""); !slices.Equal(names, []thing.Name{"other", "shop"}) {
		t.Errorf("the directory has %q", names)
	}
	if entries := subscribe(t, b.sockets.port(), wire.SnapshotPrefix).next(t, wire.KindSnapshot).Snapshot.Entries; len(entries) != 2 {
		t.Errorf("a snapshot has %d Things", len(entries))
	}
	if all := replayAll(t, b.url(), client.Query{Name: "shop"}); len(all) != 3 {
		t.Errorf("history has %d updates", len(all))
	}
	// There is room for two.
	for _, ns := range []string{"new", "shop.lamp"} {
		send(ns, 1)
		if u := feed.next(t, wire.KindUpdate).Update; string(u.Name) != ns || u.ThingSeq != 1 {
			t.Errorf("%s comes as %s", ns, line(u))
		}
	}
	none, err := b.forget(t.Context(), "nobody", true, false)
	if err != nil || none.Things != 0 || len(none.Names) != 0 {
		t.Errorf("forgotten is %+v, %v", none, err)
	}
	stop()
	if _, err := b.forget(t.Context(), "shop", true, false); !errors.Is(err, errClosing) {
		t.Errorf("a closed broker says %v", err)
	}
	b, _ = runBroker(t, nil, "--db", db)
	if names := listed(b, ""); !slices.Equal(names, []thing.Name{"new", "other", "shop", "shop.lamp"}) {
		t.Errorf("opened again, the directory has %q", names)
	}
}

// Under load from all sides, no part of the broker knows what another has
// forgotten; the feed's numbers have no hole, and a Thing's begin at 1 again.
func TestBrokerForgetUnderLoad(t *testing.T) {
	b, _ := runBroker(t, nil, "--db", t.TempDir()+"/t.db", "--max-things", "40", "--ring", "50")
	const rounds, things = 40, 40
	feed := listening(t, b.sockets.port())
	sends := []func(string, any){adaptor(t, b.sockets.port()), adaptor(t, b.sockets.port())}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var forgotten int
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name, tree := thing.Name(fmt.Sprintf("shop%d.t%d", i%4, i%10)), false
			if i%7 == 0 {
				name, tree = thing.Name(fmt.Sprintf("shop%d", i%3)), true
			}
			gone, err := b.forget(t.Context(), name, tree, false)
			if err != nil {
				t.Error(err)
				return
			}
			forgotten += gone.Things
		}
	})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			b.directory.Snapshot(directory.SnapshotOptions{})
			if _, err := b.db.Read(t.Context(), store.Query{Tree: true}, func(*thing.Update) bool { return true }); err != nil {
				t.Error(err)
				return
			}
		}
	})
	last := map[thing.Name]uint64{}
	anew, seq := 0, uint64(0)
	// Until something began anew, however seldom it gets to forgetting.
	for round := 0; (round < rounds || anew == 0) && !t.Failed(); round++ {
		for i := range things {
			sends[i%2](fmt.Sprintf("shop%d.t%d", i%4, i/4), round)
		}
		for range things {
			u := feed.next(t, wire.KindUpdate).Update
			if seq++; u.Seq != seq {
				t.Fatalf("seq %d comes where %d is next", u.Seq, seq)
			}
			if u.ThingSeq == 1 && last[u.Name] > 0 {
				anew++
			} else if u.ThingSeq != last[u.Name]+1 {
				t.Errorf("%s has thing_seq %d behind %d", u.Name, u.ThingSeq, last[u.Name])
			}
			last[u.Name] = u.ThingSeq
		}
	}
	close(stop)
	wg.Wait()
	if forgotten == 0 || anew == 0 || anew > forgotten {
		t.Errorf("%d Things were forgotten, %d began anew", forgotten, anew)
	}
	if s := b.db.State(); s.Things != b.directory.Len() || s.Head != seq {
		t.Errorf("history has %d Things up to %d, the directory %d", s.Things, s.Head, b.directory.Len())
	}
	if b.ingest.Refusals() != nil && len(b.ingest.Refusals()) > 0 {
		t.Errorf("refused: %+v", b.ingest.Refusals())
	}
	for i := range 4 {
		if _, err := b.forget(t.Context(), thing.Name(fmt.Sprintf("shop%d", i)), true, false); err != nil {
			t.Error(err)
		}
	}
	s := b.db.State()
	if s.Things != 0 || s.Updates != 0 || b.directory.Len() != 0 {
		t.Errorf("after all was forgotten: %+v, %d in the directory", s, b.directory.Len())
	}
}

// Who does not wait any more has forgotten nothing, whenever the pipeline gets
// to it.
func TestBrokerForgetGivenUp(t *testing.T) {
	b, stop := runBroker(t, nil, "--db", t.TempDir()+"/t.db")
	send := adaptor(t, b.sockets.port())
	feed := listening(t, b.sockets.port())
	send("a", 1)
	feed.next(t, wire.KindUpdate)
	held, let := make(chan struct{}), make(chan struct{})
	b.ingest.Between(func() { close(held); <-let })
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := b.forget(ctx, "a", false, false)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(let)
	send("a", 2)
	if u := feed.next(t, wire.KindUpdate).Update; u.ThingSeq != 2 {
		t.Errorf("it was forgotten: %s", line(u))
	}
	stop()
}

func TestDenySetting(t *testing.T) {
	clearEnv(t)
	t.Setenv("TBHIST_DENY", "shop.lamp x")
	s, err := settingsOf(t)
	if err != nil || !slices.Equal(s.deny, []thing.Name{"shop.lamp", "x"}) {
		t.Errorf("%q, %v", s.deny, err)
	}
	s, err = settingsOf(t, "--deny", "a", "--deny", "b.c", "--deny", "a")
	if err != nil || !slices.Equal(s.deny, []thing.Name{"a", "b.c"}) {
		t.Errorf("%q, %v", s.deny, err)
	}
	for value, hint := range map[string]string{
		"shop.*": "say shop", "shop.": "say shop", "shop*": "say shop", "Shop": "is no namespace", "*": "is no namespace", ".a": "is no namespace",
	} {
		if _, err := settingsOf(t, "--deny", value); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// A Thing that is denied is refused though history has it, and stays there.
func TestBrokerDeny(t *testing.T) {
	db := t.TempDir() + "/t.db"
	b, stop := runBroker(t, nil, "--db", db)
	send := adaptor(t, b.sockets.port())
	feed := listening(t, b.sockets.port())
	send("shop.lamp", 1)
	feed.next(t, wire.KindUpdate)
	stop()
	b, _ = runBroker(t, nil, "--db", db, "--deny", "shop")
	send = adaptor(t, b.sockets.port())
	feed = listening(t, b.sockets.port())
	for _, ns := range []string{"shop.lamp", "shop.new", "other"} {
		send(ns, 2)
	}
	if u := feed.next(t, wire.KindUpdate).Update; u.Name != "other" {
		t.Errorf("%s comes", line(u))
	}
	if names := listed(b, ""); !slices.Equal(names, []thing.Name{"other", "shop.lamp"}) {
		t.Errorf("the directory has %q", names)
	}
	refused := b.refusals()
	if len(refused) != 1 || refused[0].Reason != "denied" || refused[0].Suppressed != 1 {
		t.Errorf("refused is %+v", refused)
	}
}
