package zmtp

import "errors"

// Bounds on the body of a command, apart from subscriptions.
const maxCommand = 8 << 10

// Read gives the next frame for the program. PINGs are answered inside,
// commands that mean nothing here are passed over. The error is io.EOF when
// the peer ended the connection between two messages, a *PeerError when it
// broke the protocol or a limit. After an error there is nothing more to
// read, and the connection is closed.
func (c *Conn) Read() (Frame, error) {
	if c.in.body != nil {
		c.giveBody()
	}
	// A short frame that is in the buffer and a message by itself.
	if b := c.in.bytes(); len(b) >= 2 && b[0] == 0 && c.parts == 0 && c.role != Pub {
		if end := 2 + int(b[1]); end <= len(b) && int64(b[1]) <= c.limits.MaxFrame {
			c.in.r += end
			return Frame{Body: b[2:end:end], Size: int64(b[1])}, nil
		}
	}
	if c.readErr != nil {
		return Frame{}, c.readErr
	}
	for {
		f, ok, err := c.next()
		if err != nil {
			return Frame{}, c.fail(err)
		}
		if c.midFrame.Load() != 0 {
			c.midFrame.Store(0)
		}
		if ok {
			return f, nil
		}
	}
}

// Await waits until something more has come, or nothing more will: the next
// Read tells then what it is, and the error is a hint only. Unlike Read it
// does not close the connection when the peer has ended its side, also where
// commands came last. The body that Read gave last is not valid any more.
func (c *Conn) Await() error {
	if c.readErr != nil {
		return c.readErr
	}
	if c.in.body != nil {
		c.giveBody()
	}
	c.letGo()
	for {
		if err := c.need(1); err != nil {
			return err
		}
		// Commands to a Pub connection may be for the program.
		if c.role == Pub || c.in.bytes()[0]&flagCommand == 0 {
			return nil
		}
		if _, _, err := c.next(); err != nil {
			return c.fail(err)
		}
		c.midFrame.Store(0)
	}
}

// fail keeps why reading ended, and lets go of everything.
func (c *Conn) fail(err error) error {
	c.readErr = err
	c.ended(err)
	c.in.r = c.in.w
	c.release()
	return err
}

// ended closes the connection after err ended reading, and keeps it as the
// cause when this side is the one that gave up.
func (c *Conn) ended(err error) {
	var fault *PeerError
	if errors.As(err, &fault) {
		c.end(err)
		return
	}
	_ = c.Close()
}

// next reads one frame; ok is false for one that is not for the program.
func (c *Conn) next() (f Frame, ok bool, err error) {
	h, err := c.header()
	if err != nil {
		return Frame{}, false, err
	}
	if h.flags&flagCommand != 0 {
		body, err := c.body(h)
		if err != nil {
			return Frame{}, false, err
		}
		return c.command(body)
	}
	first := c.parts == 0
	if err := c.count(h); err != nil {
		return Frame{}, false, err
	}
	f = Frame{More: h.flags&flagMore != 0, Size: int64(h.size)}
	if int64(h.size) > c.maxMessageFrame() {
		f.Kind = Oversize
		c.in.r += h.len
		f.Body, err = c.skip(f.Size)
	} else {
		f.Body, err = c.body(h)
	}
	switch {
	case err != nil:
		return Frame{}, false, err
	case !f.More:
		c.parts, c.bytes = 0, 0
	}
	if c.role != Pub {
		return f, true, nil
	}
	// What a Pub connection receives as messages are subscriptions of ZMTP
	// 3.0; anything else is for nobody.
	if !first || len(f.Body) == 0 || f.Body[0] > 1 {
		return Frame{}, false, nil
	}
	f.Kind = Cancel
	if f.Body[0] == 1 {
		f.Kind = Subscribe
	}
	f.Body = f.Body[1:]
	f.Size--
	return f, true, nil
}

// header waits for the next frame's header and checks it against the
// limits; nothing is allocated before.
func (c *Conn) header() (header, error) {
	if err := c.need(1); err != nil {
		return header{}, err
	}
	flags := c.in.bytes()[0]
	switch {
	case flags&^flagsKnown != 0:
		return header{}, peerError(refusedProtocol, "a frame with reserved flag bits: %#02x", flags)
	case flags&flagCommand != 0 && flags&flagMore != 0:
		return header{}, peerError(refusedProtocol, "a command with the flag for more parts")
	}
	size := 2
	if flags&flagLong != 0 {
		size = maxHeader
	}
	if err := c.need(size); err != nil {
		return header{}, err
	}
	h, _ := parseHeader(c.in.bytes())
	limit := max(c.maxMessageFrame(), c.limits.MaxOversize)
	if c.role == Pub {
		limit = c.maxMessageFrame()
	}
	if flags&flagCommand != 0 {
		limit = c.maxCommandFrame()
	}
	if h.size > uint64(limit) {
		return header{}, peerError(refusedTooLarge, "a frame of %d bytes, %d are taken", h.size, limit)
	}
	return h, nil
}

// maxMessageFrame is the largest body of a message frame that is held.
func (c *Conn) maxMessageFrame() int64 {
	if c.role == Pub { // a subscription
		return min(c.limits.MaxFrame, int64(c.limits.MaxSubscriptionBytes)+1)
	}
	return c.limits.MaxFrame
}

func (c *Conn) maxCommandFrame() int64 {
	if c.role == Pub {
		return max(maxCommand, int64(c.limits.MaxSubscriptionBytes)+16)
	}
	return maxCommand
}

// count books a message frame against the limits of its message. Bodies
// that are read past count as parts only.
func (c *Conn) count(h header) error {
	c.parts++
	if int64(h.size) <= c.limits.MaxFrame {
		c.bytes += int64(h.size)
	}
	if c.parts > c.limits.MaxParts {
		return peerError(refusedTooLarge, "a message of more than %d parts", c.limits.MaxParts)
	}
	if c.bytes > c.limits.MaxMessage {
		return peerError(refusedTooLarge, "a message of more than %d bytes", c.limits.MaxMessage)
	}
	return nil
}

// body reads a checked frame's body, out of the buffer where it fits.
func (c *Conn) body(h header) ([]byte, error) {
	total := h.len + int(h.size)
	if total > largeBuffer {
		c.in.r += h.len
		return c.large(int(h.size))
	}
	if err := c.need(total); err != nil {
		return nil, err
	}
	b := c.in.bytes()[h.len:total:total]
	c.in.r += total
	return b, nil
}
