//go:build proof

package proof

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tbhist/internal/zmtp"
)

const (
	// hostileFor is how long bad peers are at it, unless TBHIST_HOSTILE says
	// otherwise.
	hostileFor = 2 * time.Minute
	// hostileAlone is how long the good peers are alone before.
	hostileAlone   = 20 * time.Second
	hostileHolders = 200 // bad peers that hold a connection
	hostileStrikes = 16  // … that come and go quickly
	hostileIdle    = 250 // idle connections at each of the four ports
	// hostileMemory is what all of it may add, of anonymous memory.
	hostileMemory = 128 * mib
)

// Bad peers of every kind at all ports at once, for minutes, harm no good
// one, and leave nothing behind.
func TestHostile(t *testing.T) {
	lasts := hostileFor
	if s := os.Getenv("TBHIST_HOSTILE"); s != "" {
		var err error
		if lasts, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	b := startBroker(t, "--ring", "1000000")
	g := startGood(t, b)
	hs := newHostiles(t, b)
	w := watchUsage(t, g, func() int { return int(hs.open.Load()) })
	<-time.After(hostileAlone / 2) // buffers and pools fill
	w.take()
	<-time.After(hostileAlone)
	alone := w.take()

	stopIdle := startIdle(hs)
	hs.pool(hostileHolders, 500*time.Millisecond, holding(true))
	hs.pool(hostileStrikes, 200*time.Millisecond, holding(false))
	hs.flood(20 * time.Millisecond)
	<-time.After(lasts / 4)
	warm := w.take()
	<-time.After(lasts / 4)
	early := w.take()
	<-time.After(lasts / 4)
	middle := w.take()
	<-time.After(lasts / 4)
	late := w.take()
	stopIdle()
	hs.end()

	if lasts >= hostileFor { // the collector takes its time to come to rest
		flat(t, typical(early), typical(late))
	}
	meanwhile := slices.Concat(warm, early, middle, late)
	if added := most(meanwhile).anon - most(alone).anon; added > hostileMemory {
		t.Errorf("bad peers add %d MiB of memory, more than %d", added/mib, hostileMemory/mib)
	}
	if n := typical(meanwhile).hostile; n < hostileHolders*3/4 {
		t.Errorf("only %d bad connections at a time", n)
	}
	was := most(alone)
	eventually(t, "everything is as it was before the bad peers", func() bool {
		now := w.now()
		return now.descriptors <= was.descriptors+5 && now.goroutines <= was.goroutines+10
	})
	hs.verify()
	w.take()
	<-time.After(hostileAlone / 2)
	after := w.take()
	if grown := typical(after).anon - was.anon; grown > 48*mib {
		t.Errorf("memory was at most %d MiB before the bad peers, and is %d after them", was.anon/mib, typical(after).anon/mib)
	}
	w.stop()
	updates, drops := g.finish(hs.updates.Load(), hs.packets.Load())
	if g.cutOff.Load() == 0 && lasts >= hostileFor {
		t.Error("no subscriber that never reads was disconnected")
	}
	m, err := g.scrape()
	if err != nil {
		t.Fatal(err)
	}
	if n := m["tbhist_subscribers_disconnected_total"]; n < float64(g.cutOff.Load()) {
		t.Errorf("%d subscribers that never read were disconnected, and %v are counted", g.cutOff.Load(), n)
	}
	if n := m["tbhist_updates_unkept_total"]; n != 0 {
		t.Errorf("%v updates were not kept", n)
	}
	g.stop()
	g.done.Wait()
	b.stop()
	fmt.Printf("proof: bad peers, by row of PROTOCOL §8: %s\n", byKey(hs.byRow))
	measured(t, `bad peers for %v, %d connections at a time and %d idle ones, %d attacks and %d datagrams:
proof:   alone      %v at most
proof:   meanwhile  %v at most; typically, second quarter %v; last %v
proof:   after      %v
proof:   %d updates, every one of them seen by %d subscribers, %v datagrams dropped by the kernel; %d lines replayed on %d pages, %d times busy; %d visits, %d never-readers cut off; %d scrapes, %d tried again`,
		lasts, typical(meanwhile).hostile, 4*hostileIdle, total(hs.tries), hs.packets.Load(),
		most(alone), most(meanwhile), typical(early), typical(late), typical(after),
		updates, goodSteady, drops, g.replayed.Load(), g.pages.Load(), g.busy.Load(), g.visits.Load(), g.cutOff.Load(), g.scrapes.Load(), g.retried.Load())
}

// holding gives the attacks that hold their connection, or the others.
func holding(holds bool) (some []attack) {
	for _, a := range slices.Concat(zmqAttacks, httpAttacks) {
		if a.holds == holds {
			some = append(some, a)
		}
	}
	return some
}

// flat demands that a later usage is not above an earlier one by more than
// chance.
func flat(t *testing.T, early, late usage) {
	t.Helper()
	if late.anon > early.anon+32*mib || late.descriptors > early.descriptors+60 || late.goroutines > early.goroutines+120 {
		t.Errorf("not flat: in the second quarter typically %v, in the last %v", early, late)
	}
}

// verify demands that every refused connection was counted.
func (hs *hostiles) verify() {
	hs.t.Helper()
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for port, listener := range []string{"feed", "input", "history"} {
		var counted int
		for _, reason := range zmtp.RefuseReasons {
			counted += int(hs.b.metric(fmt.Sprintf(`tbhist_connections_refused_total{listener="%s",reason="%s"}`, listener, reason)))
		}
		if least := hs.refused[port]; counted < least || counted > least+hs.unsure[port] {
			hs.t.Errorf("%s: %d connections had to be refused, %d more may have been, and %d are counted", listener, least, hs.unsure[port], counted)
		}
	}
	if late := int(hs.late.Load()); late > total(hs.tries)/10 {
		hs.t.Errorf("%d handshakes of %d attacks were not done in time", late, total(hs.tries))
	}
	if hs.failed > 20 {
		hs.t.Errorf("%d attacks were not dealt with as they should be", hs.failed)
	}
}

// startIdle opens connections of which nothing is heard until stop. Those at
// ZeroMQ's ports must be kept. At the HTTP port they may have to make room,
// and come again.
func startIdle(hs *hostiles) (stop func()) {
	ctx, stop := context.WithCancel(hs.ctx)
	for _, port := range append([]int{httpPort}, zmqPorts...) {
		h := &hostile{hostiles: hs, attack: attack{name: "idle", row: 14}, port: port}
		for range hostileIdle {
			hs.done.Go(func() {
				tick := time.NewTicker(time.Second)
				defer tick.Stop()
				for ctx.Err() == nil {
					h.run(func() { h.idle(ctx) })
					select {
					case <-tick.C:
					case <-ctx.Done():
					}
				}
			})
		}
	}
	return stop
}

func (h *hostile) idle(ctx context.Context) {
	var c *badConn
	if h.port == httpPort {
		c = h.dial()
		c.say([]byte("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	} else {
		c = h.shakeAs(peerType[h.port], 0)
	}
	defer c.close()
	defer context.AfterFunc(ctx, c.close)()
	if h.port == feedPort {
		c.say(single("\x01no such"))
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		h.fails("%v", err)
	}
	c.closed()
	if h.port != httpPort && ctx.Err() == nil {
		h.fails("disconnected")
	}
}

func byKey[K cmp.Ordered](m map[K]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%v: %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}

func total[K comparable](m map[K]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}
