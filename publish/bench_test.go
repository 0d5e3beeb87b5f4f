package publish

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// takeAll is a connection whose peer takes everything at once.
type takeAll struct{ *fakeConn }

func (takeAll) Write(...[]byte) error { return nil }
func (takeAll) Flush() error          { return nil }

// BenchmarkPublish has 1,000 subscribers of one Thing each, and sends batches
// of 200 updates: to Things that somebody, or that nobody, subscribed to.
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct {
		name, thing string
		prefix      func(i int) string
		subscribers int
	}{
		{"1000 of one Thing each, all wanted", "sensors.t%03d", one, 1000},
		{"1000 of one Thing each, nothing wanted", "motors.t%03d", one, 1000},
		{"50 of everything", "sensors.t%03d", func(int) string { return wire.UpdatePrefix }, 50},
		{"none", "sensors.t%03d", one, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, Options{Logger: slog.New(slog.DiscardHandler)})
			r.Publisher.clock.now, r.Publisher.clock.wall = time.Now, time.Now
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			for i := range c.subscribers {
				conn := takeAll{newFakeConn(b)}
				go func() { done <- r.serveFeed(ctx, conn) }()
				s := served{fakeConn: conn.fakeConn}
				s.subscribe(c.prefix(i))
			}
			batch := make([]thing.Update, 200)
			seq := uint64(0)
			for b.Loop() {
				for i := range batch {
					seq++
					batch[i] = thing.Update{
						Name: thing.Name(fmt.Sprintf(c.thing, seq%1000)), Data: []byte(`{"luminance":106.09,"temperature":21.5}`),
						TS: 1.7e9, Received: 17e14, Seq: seq, ThingSeq: seq,
					}
				}
				r.Publish(batch)
			}
			r.idle()
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(seq), "ns/update")
			cancel()
			for range c.subscribers {
				if err := <-done; err == nil {
					b.Error("a subscriber ended without a reason")
				}
			}
		})
	}
}

func one(i int) string {
	return string(wire.Prefix(thing.Name(fmt.Sprintf("sensors.t%03d", i)), false)[0])
}
