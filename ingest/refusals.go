package ingest

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"tbhist/internal/access"
	"tbhist/internal/wire"
	"tbhist/thing"
)

const (
	keepRefusals = 100 // in memory
	logEvery     = time.Minute
	maxLogKeys   = 4096 // pairs of source and reason told apart in the log at once
)

// Refusal is one line of the log of refused messages. Later messages of the
// same source, refused for the same reason within a minute, add to it.
type Refusal struct {
	Time       thing.Micros
	Source     netip.Addr
	Transport  thing.Transport
	Reason     thing.Reason
	Taken      string // what would have been taken
	Sample     string // the first 80 bytes, what is not printable ASCII as \xNN
	Suppressed uint64 // how many it stands for beside its own
}

// refusalKey is what one log line a minute is for.
type refusalKey struct {
	source thing.Source
	reason thing.Reason
}

// refusals logs what was refused, and remembers the last lines.
type refusals struct {
	logger *slog.Logger
	now    func() time.Time
	lines  *access.Throttle[refusalKey]

	mu   sync.Mutex // guards all below
	last []Refusal  // a ring once it is full
	next int        // where in last the next line goes
}

func newRefusals(logger *slog.Logger, now func() time.Time) *refusals {
	return &refusals{
		logger: logger, now: now,
		lines: access.NewThrottle[refusalKey](logEvery, maxLogKeys),
	}
}

// refuse logs, remembers and counts a message that is not taken. Whoever sees
// the count finds the line.
func (in *Ingest) refuse(source *thing.Source, reason thing.Reason, message []byte) {
	in.refusals.note(source, reason, message)
	in.metrics.Refused[source.Transport][reason].Inc()
}

func (r *refusals) note(source *thing.Source, reason thing.Reason, message []byte) {
	now := r.now()
	suppressed, ok := r.lines.Pass(refusalKey{*source, reason}, now)
	if !ok {
		r.suppress(source, reason)
		return
	}
	line := Refusal{
		Time: thing.MicrosOf(now), Source: source.Addr, Transport: source.Transport, Reason: reason,
		Taken: wire.Refusal(reason).Taken, Sample: escape(message[:min(len(message), sampleBytes)]),
	}
	r.remember(line)
	if reason == thing.ReasonNotAllowed {
		return // the guard has logged it, with the flag that lets it in
	}
	r.logger.Warn("refused", "source", line.Source, "transport", line.Transport.String(),
		"reason", reason.String(), "taken", line.Taken, "sample", line.Sample, "suppressed", suppressed)
}

func (r *refusals) remember(line Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.last) < keepRefusals {
		r.last = append(r.last, line)
		return
	}
	r.last[r.next] = line
	r.next = (r.next + 1) % keepRefusals
}

// suppress adds to the newest line for the same, if it is still there.
func (r *refusals) suppress(source *thing.Source, reason thing.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := len(r.last); n > 0; n-- {
		line := &r.last[(r.next+n-1)%len(r.last)]
		if line.Reason == reason && line.Source == source.Addr && line.Transport == source.Transport {
			line.Suppressed++
			return
		}
	}
}

// Refusals gives the last 100 lines, oldest first.
func (in *Ingest) Refusals() []Refusal {
	r := in.refusals
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(append(make([]Refusal, 0, len(r.last)), r.last[r.next:]...), r.last[:r.next]...)
}

// escape makes any bytes printable, and says which they were.
func escape(b []byte) string {
	const hex = "0123456789abcdef"
	out := make([]byte, 0, len(b)+16)
	for _, c := range b {
		switch {
		case c == '\\':
			out = append(out, `\\`...)
		case c >= ' ' && c <= '~':
			out = append(out, c)
		default:
			out = append(out, '\\', 'x', hex[c>>4], hex[c&15])
		}
	}
	return string(out)
}
