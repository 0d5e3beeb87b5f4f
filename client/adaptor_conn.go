package client

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"tbhist/internal/zmtp"
)

// A session is one connection of an Adaptor: it writes what is queued until
// it breaks. served tells that it got as far as writing. The error is nil
// when, after Close, all is sent.

// overZMQ is a session on a ZeroMQ connection.
func (a *Adaptor) overZMQ(ctx context.Context) (served bool, err error) {
	conn, err := a.client.connect(ctx, InputOffset, zmtp.Pub)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	subscribed := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() { cancel(readSubscriptions(conn.Conn, subscribed)) })
	defer func() {
		conn.close()
		reading.Wait()
	}()
	late := time.NewTimer(subscribeWait)
	defer late.Stop()
	select {
	case <-subscribed:
	case <-late.C:
		return false, errors.New("what answers there does not subscribe to anything")
	case <-ctx.Done():
		return false, lost(a.ctx, context.Cause(ctx))
	}
	a.begin(conn.at.addr(InputOffset))
	wrote := false
	err = a.write(ctx, func(frames [][]byte) (int, error) {
		wrote = true
		for _, f := range frames {
			if err := conn.Write(zmtp.AppendFrameHeader(nil, len(f), false), f); err != nil {
				return 0, err
			}
		}
		if err := conn.Flush(); err != nil {
			return 0, err
		}
		return len(frames), nil
	})
	if !errors.Is(err, io.EOF) {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return true, lost(a.ctx, err)
	}
	if !wrote {
		return true, nil // there is nothing that the broker may have missed
	}
	// The broker closes its side when it has read everything.
	if err := conn.CloseWrite(); err != nil {
		a.unsure = err
		return true, nil
	}
	reading.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, io.EOF) {
		a.unsure = lost(a.ctx, cause)
	}
	return true, nil
}

// subscribeWait is how long a connection may be without a subscription.
const subscribeWait = 10 * time.Second

// readSubscriptions reads until the connection ends, and tells of the first
// subscription: what is sent before it may be passed over by the peer.
func readSubscriptions(conn *zmtp.Conn, subscribed chan struct{}) error {
	var once sync.Once
	for {
		f, err := conn.Read()
		if err != nil {
			return err
		}
		if f.Kind == zmtp.Subscribe {
			once.Do(func() { close(subscribed) })
		}
	}
}

// overUDP is a session on a UDP socket, which knows where to send to. A
// datagram that nobody takes there is an error of the next one.
func (a *Adaptor) overUDP(ctx context.Context) (served bool, err error) {
	at, err := a.client.endpoints(ctx)
	if err != nil {
		return false, err
	}
	d := net.Dialer{Timeout: a.client.o.DialTimeout, Resolver: a.client.hosts()}
	conn, err := d.DialContext(ctx, "udp", at[0].addr(InputOffset))
	if err != nil {
		return false, noBroker(at[0], InputOffset, err)
	}
	defer func() { _ = conn.Close() }()
	a.begin(conn.RemoteAddr().String())
	sent := false
	err = a.write(ctx, func(frames [][]byte) (int, error) {
		for n, f := range frames {
			if _, err := conn.Write(f); err != nil {
				if sent {
					a.lost.Add(1)
				}
				return n, err
			}
			sent = true
		}
		return len(frames), nil
	})
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return true, noBroker(at[0], InputOffset, err)
}

// begin notes that the broker listens.
func (a *Adaptor) begin(addr string) {
	a.connected.Store(true)
	a.connections.Add(1)
	a.o.Logger.Info("sending to the broker", "addr", addr)
}

// write writes batches until one fails, or to io.EOF. send tells how many
// messages the network has taken.
func (a *Adaptor) write(ctx context.Context, send func([][]byte) (int, error)) error {
	for {
		frames, again, err := a.queue.take(ctx)
		if err != nil {
			return err
		}
		if again && !a.o.UDP {
			a.repeated.Add(uint64(len(frames)))
		}
		n, err := send(frames)
		a.sent.Add(uint64(n))
		a.queue.done(n)
		if err != nil {
			return err
		}
	}
}

// report logs that there is no connection: loudly once, until there was one
// again.
func (a *Adaptor) report(again bool, err error) {
	level := slog.LevelWarn
	if again {
		level = slog.LevelDebug
	}
	a.o.Logger.Log(a.ctx, level, "not connected to the broker, trying on", "err", err, "queued", a.queue.len())
}
