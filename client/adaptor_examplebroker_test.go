package client_test

import (
	"context"
	"fmt"
	"net"

	"tbhist/client"
	"tbhist/internal/zmtp"
)

// exampleBroker is as much of a broker as an adaptor needs.
type exampleBroker struct {
	url      string
	messages chan string
	close    func()
}

func exampleInput() exampleBroker {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	b := exampleBroker{messages: make(chan string, 16)}
	b.url = fmt.Sprintf("tcp://127.0.0.1:%d", ln.Addr().(*net.TCPAddr).Port-client.InputOffset) //nolint:forcetypeassert // it is TCP
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	l := zmtp.NewListener(ln, zmtp.ListenerOptions{Name: "input", Role: zmtp.Sub}, func(_ context.Context, c *zmtp.Conn) {
		for err := c.Subscribe(nil); err == nil; {
			var f zmtp.Frame
			if f, err = c.Read(); err == nil {
				b.messages <- string(f.Body)
			}
		}
	})
	go func() { done <- l.Run(ctx) }()
	b.close = func() {
		cancel()
		if err := <-done; err != nil {
			panic(err)
		}
	}
	return b
}
