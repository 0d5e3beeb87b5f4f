// Package adapt is what the programs of "tbhist adapt" have in common: rules
// that make updates of messages, counters of what they skip, and the way into
// the broker; and the programs for ZeroMQ and thingsbus themselves.
//
// None of them ends because of what a source sends: what cannot be taken is
// skipped, and counted by its reason.
package adapt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"tbhist/client"
	"tbhist/internal/access"
	"tbhist/metrics"
)

// Reason is why a message was skipped: the label of the metric and the key
// of the summary.
type Reason uint8

// The reasons.
const (
	ReasonFilter    Reason = iota // a --filter does not match
	ReasonNotJSON                 // it is not one JSON document
	ReasonNotObject               // it is JSON, but keys are asked for and it has none
	ReasonKey                     // a key that is asked for is missing
	ReasonNS                      // what shall be a namespace is none
	ReasonTS                      // what shall be a time is no number of seconds since 1970
	ReasonTooLarge                // it is larger than is taken
	ReasonInvalid                 // no broker would take it for another reason
	ReasonKnown                   // the broker has it already
	ReasonMissed                  // the source did not send it, or not in time: see the log
	ReasonRetained                // it is from before the subscription: how old it is nobody knows
	ReasonEmpty                   // it has no data
	Reasons                       // how many there are
)

var reasonCodes = [Reasons]string{
	"filter", "not_json", "not_object", "key", "ns", "ts", "too_large", "invalid", "known", "missed", "retained", "empty",
}

// String gives the code.
func (r Reason) String() string {
	if r < Reasons {
		return reasonCodes[r]
	}
	return "unknown"
}

// ReasonCodes gives all of them, for metrics.
func ReasonCodes() []string { return reasonCodes[:] }

// loud tells whether a skip of this kind is worth a line in the log: the
// others are what somebody asked for.
func (r Reason) loud() bool {
	switch r {
	case ReasonFilter, ReasonKnown, ReasonRetained, ReasonEmpty:
		return false
	}
	return true
}

// Skip is why a message is not sent on.
type Skip struct {
	Reason Reason
	// Detail says it in words for the log.
	Detail string
}

// Error says it in words.
func (s *Skip) Error() string { return s.Detail }

func skip(r Reason, format string, args ...any) *Skip {
	return &Skip{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

// Bridge leads from sources into a broker. It is safe for use by several
// goroutines.
type Bridge struct {
	out *client.Adaptor
	log *slog.Logger

	received atomic.Uint64
	skipped  [Reasons]atomic.Uint64
	sources  atomic.Int64
	// held and dropped are of the ways in that have a queue of their own.
	held     atomic.Int64
	dropped  atomic.Uint64
	throttle *access.Throttle[Reason]
}

// NewBridge makes one into out, which stays the caller's.
func NewBridge(out *client.Adaptor, log *slog.Logger) *Bridge {
	return &Bridge{out: out, log: log, throttle: access.NewThrottle[Reason](time.Minute, int(Reasons))}
}

// Received counts a message from a source.
func (b *Bridge) Received() { b.received.Add(1) }

// SourceUp notes that a source is connected, SourceDown that it no longer is.
func (b *Bridge) SourceUp() { b.sources.Add(1) }

// SourceDown is the end of a SourceUp.
func (b *Bridge) SourceDown() { b.sources.Add(-1) }

// Skip counts a message that is not sent on, and logs it, at most once a
// minute for each reason. sample is the message or its beginning.
func (b *Bridge) Skip(s *Skip, source string, sample []byte) {
	b.skipMany(s, 1, source, sample)
}

// maxSample bounds the bytes of a message in a log line.
const maxSample = 80

func (b *Bridge) skipMany(s *Skip, n uint64, source string, sample []byte) {
	b.skipped[s.Reason].Add(n)
	if !s.Reason.loud() {
		return
	}
	suppressed, ok := b.throttle.Pass(s.Reason, time.Now())
	if !ok {
		return
	}
	b.log.Warn("skipped", "reason", s.Reason.String(), "err", s.Detail, "source", source,
		"sample", string(sample[:min(len(sample), maxSample)]), "suppressed", suppressed)
}

// Send sends a message on, or skips it. The error is that of ctx, or
// client.ErrClosed.
func (b *Bridge) Send(ctx context.Context, m client.Message, source string, sample []byte) error {
	err := b.out.SendMessage(ctx, m)
	if invalid := (*client.InvalidError)(nil); errors.As(err, &invalid) {
		b.Skip(&Skip{Reason: ReasonInvalid, Detail: err.Error()}, source, sample)
		return nil
	}
	return err
}

// Flush waits until all that was sent on is with the network, or ctx ends.
func (b *Bridge) Flush(ctx context.Context) error { return b.out.Flush(ctx) }

// Held changes the number of messages that wait in a way in's own queue, and
// Dropped counts those that it dropped for want of room.
func (b *Bridge) Held(n int) { b.held.Add(int64(n)) }

// Dropped is said of with Held.
func (b *Bridge) Dropped(n int) { b.dropped.Add(uint64(n)) }

// Connected tells whether the broker listens.
func (b *Bridge) Connected() bool { return b.out.Stats().Connected }

// Sample is how it is doing, for metrics.
func (b *Bridge) Sample() metrics.AdaptSample {
	out := b.out.Stats()
	s := metrics.AdaptSample{
		Received: b.received.Load(), Skipped: make([]uint64, Reasons), Sources: int(b.sources.Load()),
		Connected: out.Connected, Queued: out.Queued + int(b.held.Load()), Sent: out.Sent, Dropped: out.Dropped + b.dropped.Load(),
		Repeated: out.Repeated,
	}
	for r := range s.Skipped {
		s.Skipped[r] = b.skipped[r].Load()
	}
	return s
}

// Summary says in one line what became of the messages.
func (b *Bridge) Summary() string {
	s := b.Sample()
	var total uint64
	var why []string
	for r, n := range s.Skipped {
		if total += n; n > 0 {
			why = append(why, fmt.Sprintf("%d %s", n, Reason(r)))
		}
	}
	line := fmt.Sprintf("%d received, %d sent, %d skipped", s.Received, s.Sent, total)
	if len(why) > 0 {
		line += " (" + strings.Join(why, ", ") + ")"
	}
	for _, part := range []struct {
		n    uint64
		what string
	}{
		{uint64(s.Queued), "waiting"},
		{s.Dropped, "dropped, the oldest first, as too many waited for the broker"},
		{s.Repeated, "sent again after a connection broke"},
	} {
		if part.n > 0 {
			line += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	return line
}
