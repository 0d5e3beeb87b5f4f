package client_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"tbhist/client"
	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// exampleHistory is as much of a broker as a follower needs: history has one
// update of a Thing, and another comes in when that was asked for.
func exampleHistory(name thing.Name, kept, comes string) exampleBroker {
	lns := exampleListeners()
	ctx, cancel := context.WithCancel(context.Background())
	line := func(seq uint64, data string) []byte {
		return wire.AppendUpdate(nil, &thing.Update{Name: name, Data: []byte(data), Seq: seq, ThingSeq: seq})
	}
	asked := make(chan struct{}, 1)
	feed := func(ctx context.Context, c *zmtp.Conn) {
		for f := (zmtp.Frame{}); !strings.HasPrefix(string(f.Body), wire.HeartbeatPrefix); {
			var err error
			if f, err = c.Read(); err != nil {
				return
			}
		}
		for _, msg := range [][]byte{wire.AppendHeartbeat(nil, wire.Heartbeat{Epoch: "e1", Seq: 1}), line(2, comes)} {
			if c.Write(zmtp.AppendFrame(nil, msg, false)) != nil || c.Flush() != nil {
				return
			}
			select {
			case <-asked:
			case <-ctx.Done():
				return
			}
		}
	}
	history := func(_ context.Context, c *zmtp.Conn) {
		for {
			envelope, _, err := zmtp.ReadRequest(c)
			if err != nil {
				return
			}
			head := wire.PageHead{Type: wire.TypeReplayPage, Epoch: "e1", Count: 1, First: 1, Last: 1, Head: 1, EvictedExact: true}
			if zmtp.WriteReply(c, envelope, head.Append(nil), append(line(1, kept), '\n')) != nil {
				return
			}
			asked <- struct{}{}
		}
	}
	var running sync.WaitGroup
	for i, l := range []*zmtp.Listener{
		zmtp.NewListener(lns[0], zmtp.ListenerOptions{Name: "feed", Role: zmtp.Pub}, feed),
		zmtp.NewListener(lns[1], zmtp.ListenerOptions{Name: "history", Role: zmtp.Router}, history),
	} {
		running.Go(func() {
			if err := l.Run(ctx); err != nil {
				fmt.Println(i, err)
			}
		})
	}
	return exampleBroker{url: "tcp://" + lns[0].Addr().String(), close: func() {
		cancel()
		running.Wait()
	}}
}

// exampleListeners opens the ports of the feed and of history.
func exampleListeners() [2]net.Listener {
	for {
		feed, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		port := feed.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is TCP
		history, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+client.HistoryOffset)))
		if err == nil {
			return [2]net.Listener{feed, history}
		}
		_ = feed.Close() // and try others
	}
}
