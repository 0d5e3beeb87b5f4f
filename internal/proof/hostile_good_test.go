//go:build proof

package proof

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"tbhist/internal/zmtp"
)

// The good peers of a run.
const (
	goodSteady   = 40 // subscribers that read everything
	goodStuck    = 5  // … that never read
	goodFickle   = 5  // … that come and go
	goodZMQ      = 12 // senders over ZeroMQ
	goodUDP      = 8  // … over UDP
	goodRate     = 25 // updates a second of each sender
	goodThings   = 2000
	goodFirst    = 2000 + goodThings // updates before all others
	goodReplays  = 3                 // peers that ask history
	replayedBack = 10000             // updates that a replay begins before the head
)

// good are peers that do nothing wrong, and what they have seen. Whatever
// they lose is an error.
type good struct {
	t    *testing.T
	b    *broker
	ctx  context.Context
	stop context.CancelFunc // of all
	done sync.WaitGroup

	sending context.Context // of the senders alone
	sent    context.CancelFunc
	senders sync.WaitGroup

	zmqSent, udpSent      [goodZMQ + goodUDP]atomic.Int64
	steady                [goodSteady]steadySeen
	cutOff                atomic.Int64 // never-reading subscribers that were disconnected
	visits                atomic.Int64 // of subscribers that come and go
	pages, replayed, busy atomic.Int64
	scrapes, retried      atomic.Int64
}

// steadySeen is what a steady subscriber has seen so far.
type steadySeen struct {
	mu      sync.Mutex // guards the rest
	seq     uint64
	updates uint64
	next    map[string]uint64 // of each sender: the number of its next update
}

func startGood(t *testing.T, b *broker) *good {
	g := &good{t: t, b: b}
	g.ctx, g.stop = context.WithCancel(t.Context())
	g.sending, g.sent = context.WithCancel(g.ctx)
	t.Cleanup(func() {
		g.stop()
		g.senders.Wait()
		g.done.Wait()
	})
	g.fill()
	for i := range goodSteady {
		g.steady[i].next = map[string]uint64{}
		c := g.subscribe()
		g.done.Go(func() { g.readSteadily(&g.steady[i], c) })
	}
	for range goodStuck {
		g.done.Go(g.neverRead)
	}
	for range goodFickle {
		g.done.Go(g.comeAndGo)
	}
	eventually(t, "the subscribers are there", func() bool { return b.metric("tbhist_subscribers") >= goodSteady+goodStuck })
	for i := range goodZMQ {
		g.senders.Go(func() { g.sendZMQ(i) })
	}
	for i := range goodUDP {
		g.senders.Go(func() { g.sendUDP(goodZMQ + i) })
	}
	for range goodReplays {
		g.done.Go(g.replay)
	}
	return g
}

// fails tells that a good peer came to harm, unless all is over.
func (g *good) fails(format string, args ...any) {
	if g.ctx.Err() == nil {
		g.t.Errorf(format, args...)
	}
}

// fill fills what the broker holds of the newest updates, and makes many
// Things known, so that directories and scrapes are long.
func (g *good) fill() {
	c := g.dial(zmtp.Pub, inputPort)
	defer c.Close()
	for i := range goodFirst {
		u := fmt.Sprintf(`["fill.t%d", null, %q, null]`, i%goodThings, bytes.Repeat([]byte("f"), 200))
		if i < goodFirst-goodThings {
			u = fmt.Sprintf(`["fill.t0", null, %q, null]`, bytes.Repeat([]byte("f"), 10_000))
		}
		if err := c.Write(single(u)); err != nil {
			g.t.Fatal(err)
		}
	}
	if err := c.Finish(g.ctx); err != nil {
		g.t.Fatal(err)
	}
	eventually(g.t, "all Things are there", func() bool { return g.b.metric("tbhist_things") == goodThings })
}

// dial connects, tries for as long as patience lasts, and closes with all.
func (g *good) dial(role zmtp.Role, port int) *zmtp.Conn {
	ctx, cancel := context.WithTimeout(g.ctx, patience)
	defer cancel()
	var c *zmtp.Conn
	var err error
	for range 3 { // the broker's time for a handshake is short on a busy machine
		c, err = zmtp.Dial(ctx, g.b.addr(port), zmtp.DialOptions{Role: role, Limits: zmtp.Limits{MaxFrame: 16 * mib, Handshake: patience}})
		if err == nil {
			break
		}
	}
	if err != nil {
		g.fails("a good %s cannot connect: %v", role, err)
		return nil
	}
	context.AfterFunc(g.ctx, func() { _ = c.Close() })
	return c
}

const updatePrefix = `{"type": "thing_update"`

func (g *good) subscribe() *zmtp.Conn {
	c := g.dial(zmtp.Sub, feedPort)
	if c == nil {
		return nil
	}
	for _, prefix := range []string{updatePrefix, `{"type": "thing_heartbeat"`} {
		if err := c.Subscribe([]byte(prefix)); err != nil {
			g.fails("subscribing: %v", err)
			return nil
		}
	}
	return c
}

// readSteadily demands every update from the first on, of all and of each
// sender.
func (g *good) readSteadily(s *steadySeen, c *zmtp.Conn) {
	for c != nil {
		f, err := c.Read()
		if err != nil {
			g.fails("a good subscriber is disconnected after seq %d: %v", s.seq, err)
			return
		}
		if !bytes.HasPrefix(f.Body, []byte(updatePrefix)) {
			if bytes.Contains(f.Body, []byte(`"skipped"`)) {
				g.fails("a good subscriber was passed over: %s", f.Body)
			}
			continue
		}
		seq, err := numberBehind(f.Body, `, "seq": `)
		if err != nil || s.seq != 0 && seq != s.seq+1 {
			g.fails("a good subscriber gets seq %d after %d (%v)", seq, s.seq, err)
			return
		}
		s.mu.Lock()
		s.seq = seq
		s.updates++
		err = s.note(f.Body)
		s.mu.Unlock()
		if err != nil {
			g.fails("seq %d: %v", seq, err)
			return
		}
	}
}

// note follows the numbers that a sender gives its updates. Of those over
// UDP some may be missing.
func (s *steadySeen) note(line []byte) error {
	name, ok := bytes.CutPrefix(line, []byte(updatePrefix+`, "ns": "good.`))
	if !ok {
		return nil
	}
	name = name[:bytes.IndexByte(name, '"')]
	n, err := numberBehind(line, `"n":`)
	if err != nil {
		return err
	}
	next := s.next[string(name)]
	if n < next || n > next && name[0] == 'z' {
		return fmt.Errorf("of %s comes no. %d where %d is due", name, n, next)
	}
	s.next[string(name)] = n + 1
	return nil
}

// numberBehind reads the number behind a text.
func numberBehind(line []byte, text string) (uint64, error) {
	_, rest, ok := bytes.Cut(line, []byte(text))
	if !ok {
		return 0, fmt.Errorf("no %s in %s", text, line)
	}
	end := bytes.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	return strconv.ParseUint(string(rest[:end]), 10, 64)
}

// neverRead subscribes to everything and reads nothing, again each time that
// it is disconnected, of which only writing tells.
func (g *good) neverRead() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for g.ctx.Err() == nil {
		nc, err := net.Dial("tcp", g.b.addr(feedPort))
		if err != nil {
			g.fails("%v", err)
			return
		}
		_ = nc.(*net.TCPConn).SetReadBuffer(4 << 10)
		end := context.AfterFunc(g.ctx, func() { _ = nc.Close() })
		_, err = nc.Write(append(append(greeting(0), readyAs("SUB")...), single("\x01")...))
		for err == nil {
			select {
			case <-tick.C:
				_, err = nc.Write(single("\x00no such"))
			case <-g.ctx.Done():
				err = g.ctx.Err()
			}
		}
		end()
		_ = nc.Close()
		if g.ctx.Err() == nil {
			g.cutOff.Add(1)
		}
	}
}

// comeAndGo subscribes, reads some updates, of which none may be missing,
// and goes without a word.
func (g *good) comeAndGo() {
	for g.ctx.Err() == nil {
		c := g.subscribe()
		if c == nil {
			return
		}
		g.visits.Add(1)
		s := steadySeen{next: map[string]uint64{}}
		for range 1 + rand.IntN(3000) {
			f, err := c.Read()
			if err != nil {
				g.fails("a subscriber that has just come is disconnected: %v", err)
				return
			}
			if !bytes.HasPrefix(f.Body, []byte(updatePrefix)) {
				continue
			}
			seq, err := numberBehind(f.Body, `, "seq": `)
			if err != nil || s.seq != 0 && seq != s.seq+1 {
				g.fails("a subscriber that has just come gets seq %d after %d (%v)", seq, s.seq, err)
				return
			}
			s.seq = seq
		}
		_ = c.Close()
	}
}

// paced calls send goodRate times a second on the whole, with n = 0, 1, 2…,
// until the senders are to end.
func (g *good) paced(send func(n int) error) error {
	const ticks = 10 // a second
	tick := time.NewTicker(time.Second / ticks)
	defer tick.Stop()
	begun := time.Now()
	for n := 0; ; {
		for due := int(time.Since(begun).Seconds() * goodRate); n < due; n++ {
			if err := send(n); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-g.sending.Done():
			return nil
		}
	}
}

var padding = bytes.Repeat([]byte("p"), 150)

func (g *good) sendZMQ(i int) {
	c := g.dial(zmtp.Pub, inputPort)
	if c == nil {
		return
	}
	var lost error // why reading ended; once ended is closed
	begun, ended := make(chan struct{}), make(chan struct{})
	g.done.Go(func() {
		defer close(ended)
		_, lost = c.Read() // the subscription
		close(begun)
		for lost == nil {
			_, lost = c.Read()
		}
	})
	<-begun
	err := g.paced(func(n int) error {
		u := fmt.Sprintf(`{"type": "thing_update", "ns": "good.z%d", "data": {"n":%d,"p":"%s"}}`, i, n, padding)
		if err := c.Write(single(u)); err != nil {
			return err
		}
		if err := c.Flush(); err != nil {
			return err
		}
		g.zmqSent[i].Add(1)
		return nil
	})
	if err == nil {
		select {
		case <-ended:
			err = lost
		default:
			err = c.CloseWrite()
			<-ended // the broker has read everything
		}
	}
	if err != nil {
		g.fails("a good sender is disconnected: %v", err)
	}
}

func (g *good) sendUDP(i int) {
	conn, err := net.Dial("udp", g.b.addr(inputPort))
	if err != nil {
		g.fails("%v", err)
		return
	}
	defer conn.Close()
	err = g.paced(func(n int) error {
		datagram, err := msgpack.Marshal([]any{fmt.Sprintf("good.u%d", i), nil, json.RawMessage(nil), nil})
		if err == nil {
			datagram, err = msgpack.Marshal([]any{fmt.Sprintf("good.u%d", i), nil, map[string]any{"n": n}, nil})
		}
		if err != nil {
			return err
		}
		if _, err := conn.Write(datagram); err != nil {
			return err
		}
		g.udpSent[i].Add(1)
		return nil
	})
	if err != nil {
		g.fails("sending by UDP: %v", err)
	}
}

// replay asks for the newest history page by page, and for the directory,
// again and again. When too many ask it asks once more.
func (g *good) replay() {
	c := g.dial(zmtp.Dealer, historyPort)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for c != nil {
		after := g.head()
		after -= min(after, replayedBack)
		request := fmt.Sprintf(`{"type": "replay", "after": %d, "page_bytes": %d}`, after, oneOf(64<<10, 256<<10, mib, 4*mib))
		for request != "" {
			h, lines, err := g.ask(c, request)
			if err != nil {
				g.fails("a good peer's replay: %v", err)
				return
			}
			request = ""
			for line := range bytes.Lines(lines) {
				seq, err := numberBehind(line, `, "seq": `)
				if err != nil || seq != after+1 {
					g.fails("seq %d is replayed after %d (%v)", seq, after, err)
					return
				}
				after = seq
				g.replayed.Add(1)
			}
			g.pages.Add(1)
			if h.Next != nil {
				request = fmt.Sprintf(`{"type": "replay", "cursor": %q}`, *h.Next)
			}
		}
		if h, lines, err := g.ask(c, `{"type": "directory", "wide": true, "page_bytes": 4194304}`); err != nil || h.Count < goodThings {
			g.fails("a good peer's directory: %d of %d Things, %v", h.Count, goodThings, err)
			return
		} else if n := bytes.Count(lines, []byte{'\n'}); n != h.Count {
			g.fails("a directory of %d lines says %d", n, h.Count)
			return
		}
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			return
		}
	}
}

// head gives the newest seq that a steady subscriber has seen.
func (g *good) head() uint64 {
	s := &g.steady[rand.IntN(goodSteady)]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}

func (g *good) ask(c *zmtp.Conn, request string) (h head, lines []byte, err error) {
	for deadline := time.Now().Add(patience); ; {
		frames, err := zmtp.Request(g.ctx, c, []byte(request))
		if err != nil {
			return h, nil, err
		}
		h = head{}
		if err := json.Unmarshal(frames[0], &h); err != nil {
			return h, nil, err
		}
		switch {
		case h.Type != "error" && len(frames) == 2:
			return h, frames[1], nil
		case h.Code != "busy":
			return h, nil, fmt.Errorf("answered with %s", frames[0])
		case time.Now().After(deadline):
			return h, nil, errors.New("it is busy all the time")
		}
		g.busy.Add(1)
	}
}

// scrape reads /metrics on a connection of its own. Where many hold the port,
// that may be closed before it is served: then once more.
func (g *good) scrape() (map[string]float64, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}, Timeout: patience}
	var last error
	for range 3 {
		body, err := func() ([]byte, error) {
			answer, err := client.Get("http://" + g.b.addr(httpPort) + "/metrics")
			if err != nil {
				return nil, err
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if answer.StatusCode != http.StatusOK {
				err = fmt.Errorf("%d %s", answer.StatusCode, body)
			}
			return body, err
		}()
		if err != nil {
			last = err
			g.retried.Add(1)
			continue
		}
		g.scrapes.Add(1)
		series := map[string]float64{}
		for line := range bytes.Lines(body) {
			if name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte("} ")); ok && line[0] != '#' {
				series[string(name)+"}"], _ = strconv.ParseFloat(string(value), 64)
			} else if name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" ")); ok && line[0] != '#' {
				series[string(name)], _ = strconv.ParseFloat(string(value), 64)
			}
		}
		return series, nil
	}
	return nil, last
}

// finish ends the senders, and demands that every update of theirs was seen
// by every steady subscriber. extra updates came from others over ZeroMQ,
// packets bad ones over UDP.
func (g *good) finish(extra, packets int64) (updates uint64, drops float64) {
	g.t.Helper()
	g.sent()
	g.senders.Wait()
	var zmq, udp int64
	for i := range g.zmqSent {
		zmq += g.zmqSent[i].Load()
		udp += g.udpSent[i].Load()
	}
	var m map[string]float64
	sum := func(name, transport string) (n float64) {
		for series, v := range m {
			if len(series) > len(name) && series[:len(name)+1] == name+"{" && bytes.Contains([]byte(series), []byte(`transport="`+transport+`"`)) {
				n += v
			}
		}
		return n
	}
	var accepted, udpAccepted, udpAll float64
	eventually(g.t, "every update and datagram is counted", func() bool {
		var err error
		if m, err = g.scrape(); err != nil {
			return false
		}
		drops = m["tbhist_udp_kernel_drops_total"]
		accepted = sum("tbhist_updates_accepted_total", "zmq")
		udpAccepted = sum("tbhist_updates_accepted_total", "udp")
		udpAll = udpAccepted + sum("tbhist_updates_refused_total", "udp") + drops
		return int64(accepted) >= zmq+extra+goodFirst && int64(udpAll) >= udp+packets
	})
	if int64(accepted) != zmq+extra+goodFirst || int64(udpAll) != udp+packets {
		g.t.Errorf("over ZeroMQ %d updates were sent and %v accepted; %d datagrams were sent and %v accepted, refused or dropped by the kernel",
			zmq+extra+goodFirst, accepted, udp+packets, udpAll)
	}
	updates = uint64(accepted + udpAccepted)
	for i := range g.steady {
		s := &g.steady[i]
		eventually(g.t, "a steady subscriber has seen the last update", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.seq == updates
		})
		s.mu.Lock()
		if s.updates != updates-goodFirst {
			g.t.Errorf("a steady subscriber saw %d updates of %d", s.updates, updates-goodFirst)
		}
		var lost int64
		for i := range g.zmqSent {
			if sent, seen := g.zmqSent[i].Load(), s.next[fmt.Sprintf("z%d", i)]; sent != int64(seen) {
				g.t.Errorf("of sender z%d came %d updates of %d", i, seen, sent)
			}
			lost += g.udpSent[i].Load() - int64(s.next[fmt.Sprintf("u%d", i)])
		}
		s.mu.Unlock()
		if lost > int64(drops) { // those missing at the end: the others are counted above
			g.t.Errorf("%d datagrams are missing at the end, and the kernel dropped %v", lost, drops)
		}
	}
	return updates, drops
}
