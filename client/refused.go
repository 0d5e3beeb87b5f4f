package client

import (
	"context"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// Refusal is a message that the broker did not take.
type Refusal struct {
	Time      thing.Micros // when it came
	Source    string       // the address it came from
	Transport string       // "zmq" or "udp"
	Reason    string       // a short code, as in docs/PROTOCOL.md, Input
	Taken     string       // what would have been taken
	Sample    string       // how it began, with unprintable bytes escaped
	// Suppressed counts those like it, soon after it, that are not listed.
	Suppressed uint64
}

// Refused asks for the newest refusals, 100 at most, oldest first. The
// broker has them in memory only, since it was started.
func (c *Client) Refused(ctx context.Context) ([]Refusal, error) {
	h, err := c.history(ctx)
	if err != nil {
		return nil, err
	}
	defer h.close()
	if err := h.send(ctx, &wire.Request{Type: wire.TypeRefused}); err != nil {
		return nil, err
	}
	p, err := h.receive(ctx, wire.TypeRefused)
	if err != nil {
		return nil, err
	}
	var all []Refusal
	for line := range p.lines {
		r, err := wire.ParseRefused(line)
		if err != nil {
			return nil, unreadable(err)
		}
		r.Source, r.Transport, r.Reason, r.Taken = visible(r.Source), visible(r.Transport), visible(r.Reason), visible(r.Taken)
		all = append(all, Refusal(r))
	}
	return all, nil
}
