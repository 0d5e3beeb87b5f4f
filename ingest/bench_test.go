package ingest

import (
	"fmt"
	"testing"

	"tbhist/thing"
)

// BenchmarkDecodeGather is one input's way of one update from bytes to
// batch, for 1,000 Things, with a consumer that gives batches straight back.
func BenchmarkDecodeGather(b *testing.B) {
	for _, c := range []struct {
		transport thing.Transport
		message   func(i int) []byte
	}{
		{thing.ZMQ, func(i int) []byte {
			return fmt.Appendf(nil, `{"type": "thing_update", "ns": "building.floor%d.sensor%d", "documentation_url": "http://example.org/doc", "data": {"temperature": 21.5, "humidity": 44, "name": "sensor %d"}, "ts": 1423351104.945123}`, i%10, i, i)
		}},
		{thing.UDP, func(i int) []byte {
			return pack(b, fmt.Sprintf("building.floor%d.sensor%d", i%10, i), map[string]any{"temperature": 21.5, "humidity": 44, "name": "sensor"})
		}},
	} {
		b.Run(c.transport.String(), func(b *testing.B) {
			in := New(Options{})
			source := &thing.Source{Transport: c.transport}
			messages := make([][]byte, 1000)
			for i := range messages {
				messages[i] = c.message(i)
			}
			burst := newBurst(in.o.Limits)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				in.decode(burst, messages[i%len(messages)], source)
				if i++; !burst.full() {
					continue
				}
				if !in.handOver(b.Context(), burst, c.transport) {
					b.Fatal("not taken")
				}
				if in.half() {
					batch, err := in.Next(b.Context(), 0)
					if err != nil {
						b.Fatal(err)
					}
					in.Release(batch)
				}
			}
			if n := len(in.Refusals()); n > 0 {
				b.Fatalf("%d refused: %+v", n, in.Refusals()[0])
			}
		})
	}
}
