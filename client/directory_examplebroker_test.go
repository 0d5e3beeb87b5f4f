package client_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// exampleFeed is as much of a broker as a directory needs: a snapshot, and
// then an update.
func exampleFeed() exampleBroker {
	lns := exampleListeners()
	_ = lns[1].Close() // nobody asks for history
	entry := func(name thing.Name, data string) *wire.Entry {
		at := thing.MicrosOf(time.Now().Add(-2 * time.Hour))
		return &wire.Entry{Update: thing.Update{Name: name, Data: []byte(data), TS: at.Seconds(), Received: at, Seq: 1, ThingSeq: 1}}
	}
	snapshot := append(wire.AppendSnapshotEntry(wire.AppendSnapshotHead(nil, 1), entry("shop.door", `"open"`)), ", "...)
	snapshot = wire.AppendSnapshotTail(wire.AppendSnapshotEntry(snapshot, entry("spacemon.electronics", `{"luminance":106.09}`)), 2, "e1", 1, 1)
	update := wire.AppendUpdate(nil, &thing.Update{Name: "shop.door", Data: []byte(`"closed"`), Seq: 3, ThingSeq: 2})
	feed := zmtp.NewListener(lns[0], zmtp.ListenerOptions{Name: "feed", Role: zmtp.Pub}, func(_ context.Context, c *zmtp.Conn) {
		for {
			f, err := c.Read()
			switch {
			case err != nil:
				return
			case f.Kind != zmtp.Subscribe || !strings.HasPrefix(string(f.Body), wire.HeartbeatPrefix):
				continue
			}
			for _, msg := range [][]byte{snapshot, update} {
				if c.Write(zmtp.AppendFrame(nil, msg, false)) != nil || c.Flush() != nil {
					return
				}
			}
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- feed.Run(ctx) }()
	return exampleBroker{url: "tcp://" + lns[0].Addr().String(), close: func() {
		cancel()
		if err := <-done; err != nil {
			fmt.Println(err)
		}
	}}
}
