package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// FullPolicy says what an Adaptor's Send does while its queue is full.
type FullPolicy uint8

// The policies.
const (
	// Block has Send wait for room until its context ends.
	Block FullPolicy = iota
	// DropOldest makes room by dropping the message that waits longest;
	// Adaptor.Dropped counts them. Send never waits.
	DropOldest
)

// AdaptorOptions say what an Adaptor sends and how. The zero value is good:
// it sends data of the root Thing.
type AdaptorOptions struct {
	// Namespace is the Thing that the data is about; Below goes on from it.
	Namespace thing.Name
	// DocumentationURL tells where people read what the data means.
	DocumentationURL string
	// UDP sends each message as one datagram of msgpack instead of over
	// ZeroMQ. Datagrams may be lost on the way and nobody is told; numbers
	// with a fraction or an exponent are sent as float64.
	UDP bool
	// Full says what happens while the queue is full.
	Full FullPolicy
	// Queue is how many messages may wait for the broker, those being
	// written (256 at most) not counted. 0 is 1000.
	Queue int
	// QueueBytes is how many bytes they may take; one message may wait
	// whatever its size. 0 is 64 MiB.
	QueueBytes int
	// MaxMessage is the size in bytes from which a message is refused. 0 is
	// 1 MiB, what a broker takes that is not told otherwise by --max-update.
	// A datagram has 65,507 bytes at most in any case.
	MaxMessage int
	// Logger gets what is worth knowing about connections; nil is that of
	// the client.
	Logger *slog.Logger
}

// Defaults of AdaptorOptions.
const (
	defaultQueue      = 1000
	defaultQueueBytes = 64 << 20
	maxDatagram       = 65507 // what a UDP packet over IPv4 has room for
)

// Adaptor feeds data into a broker. Send puts a message into a queue; a
// goroutine, which NewAdaptor starts and Close ends, writes what is queued to
// the broker. It connects by itself, again and again, with pauses of up to 5
// seconds; the queue is kept meanwhile, and nothing is sent before the broker
// has said that it listens, so that a message sent right after NewAdaptor
// arrives. An Adaptor may be used by several goroutines; messages of one go
// out in their order.
//
// # What can be lost
//
// Adaptors and brokers speak ZeroMQ's PUB and SUB, which acknowledge
// nothing. When a connection breaks, messages that the network had taken
// already and the broker had not read are lost, and nobody can tell how many:
// at most what the socket buffers of both machines hold. Messages of which
// the connection broke while they were written are written again, so that the
// broker may have some of them twice; AdaptorStats.Repeated counts them. What
// DropOldest drops is counted. Close tells what it had to give up. The
// adaptor is told of nothing that the broker refuses; "tbhist refused" shows
// it. Client.Send, slower, waits until its update is kept.
type Adaptor struct {
	client *Client
	o      AdaptorOptions
	doc    []byte // JSON; nil for none

	queue *sendQueue
	ctx   context.Context // of the goroutine; ends when Close gives up
	stop  context.CancelFunc
	done  chan struct{} // closed when the goroutine has ended

	sent, repeated, lost, connections atomic.Uint64
	connected                         atomic.Bool
	// unsure is set when the end of the last connection is not known to
	// have reached the broker; read after done.
	unsure error
}

// ErrClosed is what Send returns on an Adaptor that is closed.
var ErrClosed = errors.New("the adaptor is closed")

// UnsentError is what Close returns when messages are left.
type UnsentError struct {
	Messages int   // how many were not sent
	Err      error // why not: that of Close's context
}

// Error tells how many there are.
func (e *UnsentError) Error() string {
	return fmt.Sprintf("%d messages were not sent: %v", e.Messages, e.Err)
}

// Unwrap gives the reason.
func (e *UnsentError) Unwrap() error { return e.Err }

// NewAdaptor makes an Adaptor for the broker that where names; see
// Client.NewAdaptor.
func NewAdaptor(where Options, o AdaptorOptions) (*Adaptor, error) {
	c, err := New(where)
	if err != nil {
		return nil, err
	}
	return c.NewAdaptor(o)
}

// NewAdaptor makes an Adaptor, which has to be closed. It does not wait for
// the broker. The error says what is wrong with the options; a namespace that
// is none is an *InvalidError.
func (c *Client) NewAdaptor(o AdaptorOptions) (*Adaptor, error) {
	if _, err := thing.ParseName(string(o.Namespace)); err != nil {
		return nil, &InvalidError{err}
	}
	if o.Queue < 0 || o.QueueBytes < 0 || o.MaxMessage < 0 {
		return nil, errors.New("an adaptor's sizes are not negative")
	}
	orDefault(&o.Queue, defaultQueue)
	orDefault(&o.QueueBytes, defaultQueueBytes)
	orDefault(&o.MaxMessage, wire.DefaultMaxBytes)
	o.MaxMessage = min(o.MaxMessage, largest)
	if o.UDP {
		o.MaxMessage = min(o.MaxMessage, maxDatagram)
	}
	if o.Logger == nil {
		o.Logger = c.o.Logger
	}
	a := &Adaptor{client: c, o: o, done: make(chan struct{}), queue: newSendQueue(o.Queue, o.QueueBytes, o.Full == DropOldest)}
	if o.DocumentationURL != "" {
		var err error
		if a.doc, err = marshal(o.DocumentationURL); err != nil {
			return nil, &InvalidError{err}
		}
	}
	a.ctx, a.stop = context.WithCancel(context.Background())
	go a.run()
	return a, nil
}

func orDefault(v *int, def int) {
	if *v == 0 {
		*v = def
	}
}

// SendOption changes one message of Adaptor.Send.
type SendOption func(*Message)

// Below says that the data is about the Thing of this name below the
// adaptor's namespace: Below("door") for shop.door where that is shop.
func Below(name thing.Name) SendOption { return func(m *Message) { m.Name = name } }

// TakenAt says when the data was so. Without it that is now.
func TakenAt(t time.Time) SendOption {
	return func(m *Message) {
		ts := thing.MicrosOf(t).Seconds()
		m.TS = &ts
	}
}

// Send queues one message. data is anything that encoding/json can make JSON
// of; JSON itself is a json.RawMessage. The error is an *InvalidError when
// data, name or time can be sent to no broker, ErrClosed, or that of ctx when
// there was no room before it ended.
func (a *Adaptor) Send(ctx context.Context, data any, opts ...SendOption) error {
	v, err := marshal(data)
	if err != nil {
		return &InvalidError{err}
	}
	m := Message{Data: v}
	for _, o := range opts {
		o(&m)
	}
	return a.SendMessage(ctx, m)
}

// SendMessage queues one message that is JSON already. Its Name goes on from
// the adaptor's namespace, a nil TS is now, a nil Doc the adaptor's
// documentation URL. The errors are those of Send.
func (a *Adaptor) SendMessage(ctx context.Context, m Message) error {
	if !thing.ValidName(m.Name) {
		_, err := thing.ParseName(string(m.Name))
		return &InvalidError{err}
	}
	switch {
	case m.Name == "":
		m.Name = a.o.Namespace
	case a.o.Namespace != "":
		m.Name = a.o.Namespace + "." + m.Name
	}
	if m.TS == nil {
		now := thing.MicrosOf(time.Now()).Seconds()
		m.TS = &now
	}
	if m.Doc == nil {
		m.Doc = a.doc
	}
	frame, draft, err := m.encode()
	if err != nil {
		return err
	}
	if a.o.UDP {
		if frame, err = datagram(&draft); err != nil {
			return &InvalidError{err}
		}
	}
	if len(frame) > a.o.MaxMessage {
		return &InvalidError{fmt.Errorf("the message has %d bytes; taken are %d", len(frame), a.o.MaxMessage)}
	}
	return a.queue.push(ctx, frame)
}

// marshal makes JSON as people would write it: without escapes for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Close takes no more messages and waits until those queued are sent and the
// broker has read them, or until ctx ends: the error is an *UnsentError then,
// if any are left. Calling it again is allowed and gives the same.
func (a *Adaptor) Close(ctx context.Context) error {
	if a.queue.close() && !a.connected.Load() {
		a.stop() // there is nothing to connect for
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		a.stop()
		<-a.done
	}
	a.stop()
	reason := ctx.Err()
	if n := a.queue.len(); n > 0 {
		if reason == nil {
			reason = ErrClosed // an earlier Close gave up
		}
		return &UnsentError{Messages: n, Err: reason}
	}
	if a.unsure != nil {
		return fmt.Errorf("it is not known whether the broker has read the last messages: %w", a.unsure)
	}
	return nil
}

// Dropped counts the messages that DropOldest has dropped.
func (a *Adaptor) Dropped() uint64 { return a.queue.droppedSoFar() }

// AdaptorStats is how an Adaptor is doing.
type AdaptorStats struct {
	// Connected tells that the broker listens. Over UDP nobody can know:
	// there it tells that the host was found and has not refused yet.
	Connected bool
	// Connections counts how often it began to.
	Connections uint64
	// Queued is how many messages wait now, those being written included.
	Queued int
	// Sent counts the messages that the network took.
	Sent uint64
	// Dropped counts those that DropOldest dropped.
	Dropped uint64
	// Repeated counts those written again, since a connection broke while
	// they were written: the broker may have them twice.
	Repeated uint64
	// Lost counts the datagrams that are known not to have arrived: the
	// broker's host said that nobody takes them.
	Lost uint64
}

// Stats tells how it is doing.
func (a *Adaptor) Stats() AdaptorStats {
	return AdaptorStats{
		Connected: a.connected.Load(), Connections: a.connections.Load(), Queued: a.queue.len(),
		Sent: a.sent.Load(), Dropped: a.Dropped(), Repeated: a.repeated.Load(), Lost: a.lost.Load(),
	}
}

// steady is how long a connection must have lasted for the pauses to begin
// anew.
const steady = retryHighest

// run is the adaptor's goroutine: it has one connection after the other until
// all is sent after Close, or Close has given up.
func (a *Adaptor) run() {
	defer close(a.done)
	session := a.overZMQ
	if a.o.UDP {
		session = a.overUDP
	}
	retry := newBackoff()
	for told := false; ; {
		began := time.Now()
		served, err := session(a.ctx)
		a.connected.Store(false)
		if err == nil || a.ctx.Err() != nil || a.queue.drained() {
			return
		}
		if served && time.Since(began) > steady {
			retry.Reset()
		}
		a.report(told && !served, err)
		told = true
		if retry.Pause(a.ctx) != nil {
			return
		}
	}
}
