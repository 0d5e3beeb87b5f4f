//go:build proof

package proof

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"tbhist/internal/zmtp"
)

// source sends numbered updates to the Things root.t0, root.t1, …, each in
// its turn.
type source struct {
	root     string
	things   int
	rate     int // updates a second
	from, to int // bytes of padding, between which chance decides
	docs     bool
	// steady ones are sent also where segments are wanted in which nothing is
	// kept.
	steady bool

	n   int
	due float64
}

// crashSources gives what each sender over ZeroMQ sends. Together they make
// a segment of 4 MiB a second, and several times what their rings hold.
func crashSources() [][]*source {
	return [][]*source{
		{
			{root: "small", things: 50, rate: 8000, steady: true},
			{root: "bulk", things: 20, rate: 4000, from: 400, to: 1000, steady: true},
		},
		{
			{root: "slow", things: 100, rate: 200, from: 800, to: 1200},
			{root: "bytes", things: 10, rate: 400, from: 100, to: 6000, docs: true},
			{root: "tide", things: 2, rate: 700, from: 2000, to: 5000},
			{root: "fresh", things: 10, rate: 100, docs: true},
			{root: gone, things: 20, rate: 200, from: 50, to: 500, docs: true},
		},
		{{root: "large", things: 64, rate: 40, from: 50_000, to: 70_000}},
	}
}

const crashUDP = 1000 // datagrams a second

// crashLoad is all senders of a crash test. They count on over all rounds.
type crashLoad struct {
	random  *rand.Rand
	padding []byte
	senders [][]*source
	udp     source
}

func newCrashLoad(random *rand.Rand) *crashLoad {
	raw := make([]byte, 8*mib)
	for i := range raw {
		raw[i] = byte(random.Uint32())
	}
	return &crashLoad{
		random: random, senders: crashSources(), udp: source{root: "udp", things: 4, rate: crashUDP, steady: true},
		padding: base64.StdEncoding.AppendEncode(nil, raw),
	}
}

// start sends to a broker, whether it is there or not, until stop, which waits
// for all senders. What is lost with a connection is lost. round names Things
// that were never there; wanted chooses among the sources.
func (l *crashLoad) start(ctx context.Context, b *broker, round int, wanted func(*source) bool) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var senders sync.WaitGroup
	for _, sources := range l.senders {
		s := &crashSender{random: rand.New(rand.NewPCG(l.random.Uint64(), 0)), padding: l.padding}
		for _, source := range sources {
			if source.root == "fresh" || strings.HasPrefix(source.root, "fresh.") {
				source.root = "fresh.r" + strconv.Itoa(round)
			}
			if wanted(source) {
				s.sources = append(s.sources, source)
			}
		}
		d := zmtp.Dialer{DialOptions: zmtp.DialOptions{Role: zmtp.Pub}, MinBackoff: 2 * time.Millisecond, MaxBackoff: 10 * time.Millisecond}
		addr := func(int) (string, error) { return b.addr(inputPort), nil }
		senders.Go(func() { _ = d.Run(ctx, addr, s.send) }) // it ends with ctx
	}
	senders.Go(func() { l.udp.datagrams(ctx, b.addr(inputPort)) })
	return func() {
		cancel()
		senders.Wait()
	}
}

// crashSender is one connection's.
type crashSender struct {
	sources []*source
	random  *rand.Rand
	padding []byte
	framed  []byte
	body    []byte
}

const crashTick = 5 * time.Millisecond

func (s *crashSender) send(ctx context.Context, c *zmtp.Conn) error {
	ticker := time.NewTicker(crashTick)
	defer ticker.Stop()
	for {
		s.framed = s.framed[:0]
		for _, source := range s.sources {
			for source.due += float64(source.rate) * crashTick.Seconds(); source.due >= 1; source.due-- {
				s.update(source)
			}
		}
		if err := c.Write(s.framed); err != nil {
			return err
		}
		if err := c.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// update frames the next update of a source.
func (s *crashSender) update(source *source) {
	source.n++
	b := append(s.body[:0], `{"type": "thing_update", "ns": "`...)
	b = append(b, source.root...)
	b = append(b, ".t"...)
	b = strconv.AppendInt(b, int64(source.n%source.things), 10)
	b = append(b, `", "data": {"n":`...)
	b = strconv.AppendInt(b, int64(source.n), 10)
	if source.to > 0 {
		size := source.from + s.random.IntN(source.to-source.from)
		at := s.random.IntN(len(s.padding) - size)
		b = append(b, `,"x":"`...)
		b = append(b, s.padding[at:at+size]...)
		b = append(b, '"')
	}
	b = append(b, `}, "ts": `...)
	b = strconv.AppendInt(b, int64(source.n), 10)
	b = append(b, `.5, "documentation_url": `...)
	b = append(b, source.doc()...)
	b = append(b, '}')
	s.body = b
	s.framed = zmtp.AppendFrame(s.framed, b, false)
}

// doc gives some of all that a documentation URL may be.
func (s *source) doc() string {
	switch n := s.n / s.things; {
	case !s.docs || n%3 == 0:
		return "null"
	case n%3 == 1:
		return fmt.Sprintf(`"https://example.org/%d"`, s.n%5)
	case n%60 == 2:
		return `""`
	case n%60 == 32:
		return fmt.Sprintf(`"https://example.org/%s/%d"`, strings.Repeat("long", 300), s.n)
	}
	return fmt.Sprintf(`"https://example.org/of/its/own/%d"`, s.n)
}

// datagrams sends as msgpack.
func (s *source) datagrams(ctx context.Context, addr string) {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return // nothing will be seen of them, and the test says so
	}
	defer conn.Close()
	ticker := time.NewTicker(crashTick)
	defer ticker.Stop()
	for {
		for range int(float64(s.rate) * crashTick.Seconds()) {
			s.n++
			datagram, err := msgpack.Marshal([]any{fmt.Sprintf("%s.t%d", s.root, s.n%s.things), nil, map[string]any{"n": s.n}, nil})
			if err != nil {
				return
			}
			_, _ = conn.Write(datagram) // nobody listens between kill and start
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// crashNumber gives the number that a sender gave an update.
func crashNumber(data []byte) (int64, error) {
	digits, ok := bytes.CutPrefix(data, []byte(`{"n":`))
	end := bytes.IndexAny(digits, ",}")
	if !ok || end < 0 {
		return 0, fmt.Errorf("not sent by this test: %.100s", data)
	}
	return strconv.ParseInt(string(digits[:end]), 10, 64)
}
