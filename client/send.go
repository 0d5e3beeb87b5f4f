package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// Message is one update to send.
type Message struct {
	// Name is the Thing that the data is about.
	Name thing.Name
	// Data is any JSON value.
	Data []byte
	// TS is when the data was so, in seconds since 1970; nil leaves it to
	// the broker's clock.
	TS *float64
	// Doc is the documentation URL as a JSON value; nil for none.
	Doc []byte
}

// InvalidError tells that a message can be sent to no broker.
type InvalidError struct{ Err error }

// Error says what is wrong with the message and what is taken.
func (e *InvalidError) Error() string { return e.Err.Error() }

// Unwrap gives what is wrong.
func (e *InvalidError) Unwrap() error { return e.Err }

// RefusedError tells that the broker did not take a message.
type RefusedError struct{ Refusal Refusal }

// Error gives the reason and what would have been taken.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the broker refused it (%s); taken would be %s", e.Refusal.Reason, e.Refusal.Taken)
}

// ErrNotSeen tells that a message was sent and did not come back on the
// live feed, nor is in history.
var ErrNotSeen = errors.New("it was sent but did not come back on the live feed")

// SendWait is how long Send waits for its message to come back.
const SendWait = 10 * time.Second

// largest is what Send takes at most; a broker may take less.
const largest = 64 << 20

// Encode checks a message and gives its bytes on the wire; the error is an
// *InvalidError.
func (m *Message) Encode() ([]byte, error) {
	frame, _, err := m.encode()
	return frame, err
}

// encode gives the draft that the broker will make of the frame, too.
func (m *Message) encode() (frame []byte, draft wire.Draft, err error) {
	if !thing.ValidName(m.Name) {
		_, err := thing.ParseName(string(m.Name))
		return nil, draft, &InvalidError{err}
	}
	for _, v := range [][]byte{m.Data, m.Doc} {
		if v != nil || m.Data == nil {
			if err := validJSON(v); err != nil {
				return nil, draft, &InvalidError{err}
			}
		}
	}
	frame = append(frame, wire.UpdatePrefix+`, "ns": "`...)
	frame = append(append(frame, m.Name...), `", "documentation_url": `...)
	frame = append(append(frame, orNull(m.Doc)...), `, "data": `...)
	frame = append(append(frame, m.Data...), `, "ts": `...)
	if m.TS == nil {
		frame = append(frame, "null}"...)
	} else {
		frame = append(wire.AppendTS(frame, *m.TS), '}')
	}
	if _, err := wire.NewDecoder(wire.Limits{MaxBytes: largest}).JSON(nil, frame, &draft); err != nil {
		return nil, draft, &InvalidError{err}
	}
	return frame, draft, nil
}

// validJSON makes sure that v is one JSON value: pasted into a message,
// anything else could become other members.
func validJSON(v []byte) error {
	var any json.RawMessage
	err := json.Unmarshal(v, &any)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("the data is not JSON: %w (at byte %d)", err, syntax.Offset)
	}
	return err
}

func orNull(v []byte) []byte {
	if v == nil {
		return []byte("null")
	}
	return v
}

// Send sends one update and waits until it is back on the live feed, which
// tells that it is on the broker's disk, and gives it as the broker has it.
// An update with a Seq of 0 was published but not kept. When it is not back
// within SendWait the error is a *RefusedError if the broker is known to
// have refused it, else ErrNotSeen. An *InvalidError is about the message
// itself; nothing was sent then.
//
// An update of the same Thing with the same data that another program sends
// at the same moment cannot be told apart from this one.
func (c *Client) Send(ctx context.Context, m Message) (Update, error) {
	frame, draft, err := m.encode()
	if err != nil {
		return Update{}, err
	}
	feed, err := c.feed(ctx, m.Name, false, false)
	if err != nil {
		return Update{}, err
	}
	defer feed.close()
	c = c.on(feed.at)
	before, _ := c.Refused(ctx) // for a better error later

	input, err := c.connect(ctx, InputOffset, zmtp.Pub)
	if err != nil {
		return Update{}, err
	}
	defer input.close()
	if err := input.Write(zmtp.AppendFrame(nil, frame, false)); err != nil {
		return Update{}, lost(ctx, err)
	}
	if err := input.Flush(); err != nil {
		return Update{}, lost(ctx, err)
	}

	waiting, cancel := context.WithTimeout(ctx, c.sendWait)
	defer cancel()
	stop := context.AfterFunc(waiting, feed.close)
	defer stop()
	// A refusal ends the waiting early.
	watched := make(chan struct{})
	var refusal *Refusal
	go func() {
		defer close(watched)
		if refusal = c.watchRefusal(waiting, before, frame); refusal != nil {
			cancel()
		}
	}()
	defer func() {
		cancel()
		<-watched
	}()
	for {
		got, err := feed.next(waiting)
		switch {
		case err != nil && ctx.Err() == nil && waiting.Err() != nil:
			cancel()
			<-watched
			if refusal != nil {
				return Update{}, &RefusedError{Refusal: *refusal}
			}
			return c.whereabouts(ctx, &m, &draft, frame, before)
		case err != nil:
			return Update{}, err
		case got.Kind == wire.KindUpdate && same(&got.Update, &draft):
			return got.Update, nil
		}
	}
}

// refusalAfter is how long Send waits before it asks whether its message was
// refused: most are back long before.
const refusalAfter = 300 * time.Millisecond

// watchRefusal finds out early, and for sure, that a message was refused.
func (c *Client) watchRefusal(ctx context.Context, before []Refusal, frame []byte) *Refusal {
	select {
	case <-time.After(refusalAfter):
	case <-ctx.Done():
		return nil
	}
	after, err := c.Refused(ctx)
	if err != nil {
		return nil
	}
	if r := newRefusal(before, after, frame); r != nil && strings.HasPrefix(r.Sample, beginning(frame)) {
		return r
	}
	return nil
}

// same tells whether an update is what the broker makes of the draft.
func same(u *Update, d *wire.Draft) bool {
	return string(u.Name) == string(d.NS) && bytes.Equal(u.Data, d.Data) && bytes.Equal(u.Doc, d.Doc) &&
		(!d.HasTS || u.TS == d.TS)
}

// whereabouts finds out what became of a message that did not come back.
func (c *Client) whereabouts(ctx context.Context, m *Message, draft *wire.Draft, frame []byte, before []Refusal) (Update, error) {
	// It may have been published before the subscription was at work.
	for u, err := range c.Replay(ctx, Query{Name: m.Name, Alone: true, Last: 1, Since: Ago(2 * SendWait)}).Updates() {
		if err == nil && same(&u, draft) {
			return u, nil
		}
	}
	after, err := c.Refused(ctx)
	if err != nil {
		return Update{}, ErrNotSeen
	}
	if r := newRefusal(before, after, frame); r != nil {
		return Update{}, &RefusedError{Refusal: *r}
	}
	return Update{}, ErrNotSeen
}

// newRefusal finds the refusal of frame among those that came to be between
// two answers. One that is not listed by itself counts for the line of the
// one before it.
func newRefusal(before, after []Refusal, frame []byte) *Refusal {
	known := map[Refusal]bool{}
	for _, r := range before {
		known[r] = true
	}
	var likely *Refusal
	for i := range after {
		r := &after[i]
		if known[*r] || r.Transport != thing.ZMQ.String() {
			continue
		}
		if likely == nil || strings.HasPrefix(r.Sample, beginning(frame)) {
			likely = r
		}
	}
	return likely
}

// beginning gives what the sample of a refused message begins with: up to the
// Thing's name a message is plain, so that escaping changes nothing.
func beginning(frame []byte) string {
	name := len(wire.UpdatePrefix + `, "ns": "`)
	end := name + bytes.IndexByte(frame[name:], '"')
	const sample = 80
	return string(frame[:min(end+1, sample)])
}
