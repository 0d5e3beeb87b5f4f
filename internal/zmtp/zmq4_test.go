package zmtp

import (
	"context"
	"fmt"
	"io"
	"log"
	"testing"

	"github.com/go-zeromq/zmq4"
)

// zmq4's own sockets as peers of our listeners and dialers.

func quiet() zmq4.Option { return zmq4.WithLogger(log.New(io.Discard, "", 0)) }

// open makes a zmq4 socket that is closed before the listener ends.
func open(t *testing.T, s zmq4.Socket) zmq4.Socket {
	t.Helper()
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func zmq4Context(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return ctx
}

func TestZMQ4Sub(t *testing.T) {
	tl := listen(t, ListenerOptions{Role: Pub}, serveRole(Pub, nil))
	s := open(t, zmq4.NewSub(zmq4Context(t), quiet()))
	if err := s.Dial("tcp://" + tl.addr); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"topic", ""} {
		if err := s.SetOption(zmq4.OptionSubscribe, topic); err != nil {
			t.Fatal(err)
		}
		msg, err := s.Recv()
		if err != nil || string(msg.Bytes()) != topic+"hello" {
			t.Errorf("%q, %v", msg.Bytes(), err)
		}
	}
}

func TestZMQ4Pub(t *testing.T) {
	got := make(chan int, 100)
	tl := listen(t, ListenerOptions{Role: Sub}, serveRole(Sub, func(_ *Conn, f Frame) { got <- len(f.Body) }))
	s := open(t, zmq4.NewPub(zmq4Context(t), quiet()))
	if err := s.Dial("tcp://" + tl.addr); err != nil {
		t.Fatal(err)
	}
	wait(t, "the subscription has come", func() bool {
		if err := s.Send(zmq4.NewMsgString("first")); err != nil {
			t.Fatal(err)
		}
		return len(got) > 0
	})
	sizes := []int{0, 1, 255, 256, 70_000, 1 << 20}
	for _, n := range sizes {
		if err := s.Send(zmq4.NewMsg(make([]byte, n))); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range sizes {
		n := <-got
		for n == len("first") {
			n = <-got
		}
		if n != want {
			t.Errorf("%d bytes came, not %d", n, want)
		}
	}
}

func TestZMQ4ReqDealer(t *testing.T) {
	tl := listen(t, ListenerOptions{Role: Router}, serveRole(Router, nil))
	ctx := zmq4Context(t)
	req, dealer := open(t, zmq4.NewReq(ctx, quiet())), open(t, zmq4.NewDealer(ctx, quiet()))
	for _, s := range []zmq4.Socket{req, dealer} {
		if err := s.Dial("tcp://" + tl.addr); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		q := fmt.Sprint("question ", i)
		if err := req.Send(zmq4.NewMsgString(q)); err != nil {
			t.Fatal(err)
		}
		if msg, err := req.Recv(); err != nil || len(msg.Frames) != 1 || string(msg.Frames[0]) != q {
			t.Errorf("REQ got %v, %v", msg, err)
		}
		if err := dealer.SendMulti(zmq4.NewMsgFromString([]string{"", q})); err != nil {
			t.Fatal(err)
		}
		if msg, err := dealer.Recv(); err != nil || len(msg.Frames) != 2 || string(msg.Frames[1]) != q {
			t.Errorf("DEALER got %v, %v", msg, err)
		}
		if err := dealer.Send(zmq4.NewMsgString(q)); err != nil {
			t.Fatal(err)
		}
		if msg, err := dealer.Recv(); err != nil || len(msg.Frames) != 1 || string(msg.Frames[0]) != q {
			t.Errorf("DEALER without delimiter got %v, %v", msg, err)
		}
	}
}

// zmq4Listen binds a zmq4 socket, and gives its address.
func zmq4Listen(t *testing.T, s zmq4.Socket) string {
	t.Helper()
	if err := s.Listen("tcp://127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	return s.Addr().String()
}

func TestDialZMQ4(t *testing.T) {
	ctx := zmq4Context(t)
	t.Run("PUB", func(t *testing.T) {
		s := open(t, zmq4.NewPub(ctx, quiet()))
		c, err := Dial(t.Context(), zmq4Listen(t, s), DialOptions{Role: Sub, Heartbeat: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if err := c.Subscribe([]byte("a")); err != nil {
			t.Fatal(err)
		}
		read := make(chan Frame, 1)
		go func() {
			f, _ := c.Read()
			read <- f
		}()
		var f Frame
		wait(t, "the subscription has come", func() bool {
			for _, m := range []string{"b: no", "a: yes"} {
				if err := s.Send(zmq4.NewMsgString(m)); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case f = <-read:
				return true
			default:
				return false
			}
		})
		if string(f.Body) != "a: yes" {
			t.Errorf("%q", f.Body)
		}
	})
	t.Run("SUB", func(t *testing.T) {
		s := open(t, zmq4.NewSub(ctx, quiet()))
		if err := s.SetOption(zmq4.OptionSubscribe, ""); err != nil {
			t.Fatal(err)
		}
		c, err := Dial(t.Context(), zmq4Listen(t, s), DialOptions{Role: Pub})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if f, err := c.Read(); err != nil || f.Kind != Subscribe || len(f.Body) != 0 {
			t.Fatalf("kind %d, %q, %v", f.Kind, f.Body, err)
		}
		if err := c.Write(message("update")); err != nil {
			t.Fatal(err)
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		if msg, err := s.Recv(); err != nil || string(msg.Bytes()) != "update" {
			t.Errorf("%q, %v", msg.Bytes(), err)
		}
	})
	for _, role := range []Role{Req, Dealer} {
		t.Run("REP to "+string(role), func(t *testing.T) {
			s := open(t, zmq4.NewRep(ctx, quiet()))
			c, err := Dial(t.Context(), zmq4Listen(t, s), DialOptions{Role: role})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			for _, q := range []string{"one", "two"} {
				if err := SendRequest(c, []byte(q)); err != nil {
					t.Fatal(err)
				}
				msg, err := s.Recv()
				if err != nil || string(msg.Bytes()) != q {
					t.Fatalf("%q, %v", msg.Bytes(), err)
				}
				if err := s.Send(msg); err != nil {
					t.Fatal(err)
				}
				if reply, err := ReadReply(c); err != nil || len(reply) != 1 || string(reply[0]) != q {
					t.Errorf("%q, %v", reply, err)
				}
			}
		})
	}
}
