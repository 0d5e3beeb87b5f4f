package main

import (
	"context"
	"sync/atomic"
	"time"

	"tbhist/internal/zmtp"
)

// steady is updates at a steady rate, some of them every millisecond, and
// when each was sent. All of the workload's Things are known before.
type steady struct {
	w       *workload
	from, n int // the first update, and how many
	burst   int // updates in a millisecond
	begun   time.Time
	at      []atomic.Int64 // when each burst was sent, in ns after begun
}

// steady gives n updates, perSecond of them each second, behind those that
// make all Things known.
func (w *workload) steady(perSecond, n int) *steady {
	burst := perSecond / 1000
	known := (w.things + pieceUpdates - 1) / pieceUpdates * pieceUpdates
	return &steady{
		w: w, from: known, n: n, burst: burst,
		begun: time.Now(), at: make([]atomic.Int64, (n+burst-1)/burst),
	}
}

// introduce makes all Things known to a new broker.
func (l *steady) introduce(ctx context.Context, br *broker, snd *sender) error {
	if err := snd.send(l.w.framed(), 0, l.from); err != nil {
		return err
	}
	return br.awaitHead(ctx, l.from)
}

// lasting gives how long n updates last at a rate.
func lasting(n, perSecond int) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(perSecond)
}

// send sends all of it.
func (l *steady) send(ctx context.Context, snd *sender) error {
	var framed []byte
	return paced(ctx, len(l.at), time.Millisecond, func(i int) error {
		framed = framed[:0]
		for k := i * l.burst; k < min((i+1)*l.burst, l.n); k++ {
			framed = zmtp.AppendFrame(framed, l.w.payloads[(l.from+k)%cycle], false)
		}
		l.at[i].Store(int64(l.now()))
		if err := snd.c.Write(framed); err != nil {
			return err
		}
		return snd.c.Flush()
	})
}

// now gives the time by the load's clock.
func (l *steady) now() time.Duration { return time.Since(l.begun) }

// sent gives when a burst was sent, by the same.
func (l *steady) sent(burst int) time.Duration { return time.Duration(l.at[burst].Load()) }

// took gives how long it took to send all: longer than planned where the
// broker held the sender back.
func (l *steady) took() time.Duration { return l.sent(len(l.at)-1) - l.sent(0) + time.Millisecond }

// end gives the seq of its last update in a broker that was given nothing
// else.
func (l *steady) end() uint64 { return uint64(l.from + l.n) }
