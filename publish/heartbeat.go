package publish

import (
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// beat has a heartbeat sent to everybody who wants them, each in its place
// on its connection.
func (p *Publisher) beat() {
	now := p.clock.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beats++
	for s := range p.subs {
		if s.beats > 0 {
			s.rise(now)
		}
	}
}

// heartbeat writes a heartbeat for where the subscriber stands.
func (s *subscriber) heartbeat(h wire.Heartbeat) error {
	state := s.p.o.Store.State()
	h.Epoch, h.Degraded, h.TS = state.Epoch, state.Degraded != "", micros(s.p.clock.wall())
	msg := wire.AppendHeartbeat(make([]byte, 0, 256), h)
	if !s.matcher().other(msg) {
		return nil
	}
	return s.put(zmtp.AppendFrame(nil, msg, false))
}

func micros(t time.Time) thing.Micros { return thing.MicrosOf(t) }
