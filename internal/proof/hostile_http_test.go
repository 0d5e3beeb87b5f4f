//go:build proof

package proof

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

var onHTTP = []int{httpPort}

// httpAttacks are what a bad peer does to the HTTP port. A connection may be
// closed at any time there to make room for another.
var httpAttacks = []attack{
	{name: "HTTP: nothing said", at: onHTTP, holds: true, do: func(h *hostile) { h.dial().closed() }},
	{name: "HTTP: headers byte by byte", at: onHTTP, holds: true, do: func(h *hostile) {
		c := h.dial()
		c.drip([]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("y", 1000)), 100*time.Millisecond)
		c.closed()
	}},
	{name: "HTTP: half a request", at: onHTTP, holds: true, do: func(h *hostile) {
		c := h.dial()
		c.say([]byte("GET /healthz HTTP/1.1\r\nHost: loc"))
		c.closed()
	}},
	{name: "HTTP: a body byte by byte", at: onHTTP, holds: true, do: func(h *hostile) {
		c := h.dial()
		c.say([]byte("POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"))
		c.drip(make([]byte, 1000), 100*time.Millisecond)
		c.closed()
	}},
	{name: "HTTP: half a request, then the end", at: onHTTP, do: func(h *hostile) {
		c := h.dial()
		c.say([]byte("GET /metrics HTTP/1.1\r\nHo"))
		c.halfClose()
	}},
	{name: "HTTP: huge headers", at: onHTTP, do: func(h *hostile) {
		c := h.dial()
		c.say([]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\n"))
		line := []byte("X: " + strings.Repeat("y", 8000) + "\r\n")
		for sent := 0; c.say(line); sent += len(line) {
			if sent > 64*mib {
				h.fails("%d bytes of headers are taken", sent)
			}
		}
		c.closed()
	}},
	{name: "HTTP: a huge body", at: onHTTP, do: func(h *hostile) {
		c := h.dial()
		c.say([]byte(oneOf("POST /healthz", "GET /metrics", "POST /api/v1/forget") + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n"))
		body := make([]byte, 64<<10)
		for sent := 0; c.say(body); sent += len(body) {
			if sent > 64*mib {
				h.fails("%d bytes of a body are taken", sent)
			}
		}
		c.closed()
	}},
	{name: "HTTP: bytes of another protocol", at: onHTTP, do: func(h *hostile) {
		c := h.dial()
		c.say(oneOf(greeting(1), []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), make([]byte, 20000)))
		h.perhaps = true
		if err := c.SetReadDeadline(time.Now().Add(lasting)); err != nil {
			h.fails("%v", err)
		}
		c.closed()
	}},
	{name: "HTTP: requests behind one another", at: onHTTP, do: func(h *hostile) {
		c := h.dial()
		const n = 50
		c.say(bytes.Repeat([]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"), n))
		for range n {
			answer, err := http.ReadResponse(c.br, nil)
			if err != nil {
				h.stop()
				return // it made room for another
			}
			if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
				h.fails("%d, %v", answer.StatusCode, err)
			}
		}
	}},
	{name: "HTTP: endless requests, no answer taken", at: onHTTP, holds: true, do: func(h *hostile) {
		c := h.dial()
		_ = c.SetDeadline(time.Now().Add(5 * lasting)) // the first answers fit into the kernel
		some := bytes.Repeat(fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", oneOf("/healthz", "/metrics")), 200)
		for range 500 {
			if !c.say(some) {
				return
			}
		}
		c.hold()
	}},
	{name: "HTTP: a scraper that takes nothing", at: onHTTP, holds: true, do: func(h *hostile) {
		c := h.dial()
		c.say([]byte("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		c.hold()
	}},
	{name: "HTTP: a scraper that hardly takes", at: onHTTP, holds: true, do: func(h *hostile) {
		c := h.dial()
		c.say([]byte("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		c.trickle(100 + rand.IntN(1000))
	}},
}
