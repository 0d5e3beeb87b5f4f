package zmtp

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"
)

const benchBody = 214 // 216 bytes a frame

// BenchmarkReceive has a Sub listener read what a peer sends in large
// writes over loopback.
func BenchmarkReceive(b *testing.B) {
	done := make(chan int, 1)
	n := 0
	tl := listen(b, ListenerOptions{Role: Sub}, serveRole(Sub, func(_ *Conn, f Frame) {
		if len(f.Body) != benchBody {
			b.Errorf("%d bytes", len(f.Body))
		}
		if n++; n == b.N {
			done <- n
		}
	}))
	r := shake(b, tl.addr, "PUB", 0)
	frame := AppendFrame(nil, make([]byte, benchBody), false)
	burst := bytes.Repeat(frame, 2000)
	if err := r.SetDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	b.ResetTimer()
	for left := b.N; left > 0; left -= 2000 {
		r.send(burst[:min(left, 2000)*len(frame)])
	}
	<-done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	_ = r.Close()
}

// BenchmarkSend has one peer read what a Pub listener writes frame by
// frame.
func BenchmarkSend(b *testing.B) {
	frame := AppendFrame(nil, make([]byte, benchBody), false)
	start := make(chan struct{})
	tl := listen(b, ListenerOptions{Role: Pub}, func(_ context.Context, c *Conn) {
		<-start
		for range b.N {
			if err := c.Write(frame); err != nil {
				b.Error(err)
				return
			}
		}
		if err := c.Flush(); err != nil {
			b.Error(err)
		}
	})
	r := shake(b, tl.addr, "SUB", 0)
	if err := r.SetDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	b.ResetTimer()
	close(start)
	n, err := io.Copy(discard{}, struct{ io.Reader }{r.br})
	if n != int64(b.N*len(frame)) || err != nil {
		b.Fatalf("%d bytes, %v", n, err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkHandshake is one connection from dialling to READY and its end.
func BenchmarkHandshake(b *testing.B) {
	tl := listen(b, ListenerOptions{Role: Router}, serveRole(Router, nil))
	b.ReportAllocs()
	for b.Loop() {
		c, err := Dial(b.Context(), tl.addr, DialOptions{Role: Req})
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}

func BenchmarkMatch(b *testing.B) {
	s := NewSubscriptions(DefaultLimits())
	for _, p := range []string{
		`{"type": "thing_update", "ns": "shop"`, `{"type": "thing_update", "ns": "shop.`,
		`{"type": "thing_heartbeat"`, `{"type": "thing_snapshot"`,
	} {
		if _, err := s.Add([]byte(p)); err != nil {
			b.Fatal(err)
		}
	}
	msg := []byte(`{"type": "thing_update", "ns": "shop.window", "data": 5, "ts": 1.0}`)
	b.ReportAllocs()
	for b.Loop() {
		if !s.Match(msg) {
			b.Fatal("no match")
		}
	}
}

var _ net.Conn = (*raw)(nil)
