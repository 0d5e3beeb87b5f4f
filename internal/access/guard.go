package access

import (
	"log/slog"
	"net"
	"net/netip"
	"time"
)

const (
	logEvery   = time.Minute
	maxLogKeys = 1024 // addresses told apart in the log at once
)

// ReasonNotAllowed is the code of a connection refused by a Guard.
const ReasonNotAllowed = "not_allowed"

// GuardOptions are what a Guard tells of its refusals.
type GuardOptions struct {
	// Flag is the command line's flag that the list came from, such as
	// "--allow-input"; the log line names it.
	Flag string
	// Logger gets one line per address and minute; nil means none.
	Logger *slog.Logger
	// Refused, unless nil, is told of every refusal.
	Refused func(listener string)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Guard asks a List for listeners, and counts and logs whom it refuses. It
// is safe for use by many goroutines.
type Guard struct {
	list *List
	o    GuardOptions
	log  *Throttle[netip.Addr]
}

// NewGuard makes the guard of a list.
func NewGuard(l *List, o GuardOptions) *Guard {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Guard{list: l, o: o, log: NewThrottle[netip.Addr](logEvery, maxLogKeys)}
}

// Admit tells whether a may come in through the listener of that name.
func (g *Guard) Admit(listener string, a netip.Addr) bool {
	if g.list.Allows(a) {
		return true
	}
	if g.o.Refused != nil {
		g.o.Refused(listener)
	}
	a = plain(a)
	if suppressed, ok := g.log.Pass(a, g.o.Now()); ok {
		g.o.Logger.Warn("refused", "listener", listener, "source", a, "reason", ReasonNotAllowed,
			"allow_with", g.o.Flag+" "+g.list.String()+","+a.String(), "suppressed", suppressed)
	}
	return false
}

// Listener gives ln with the peers that are not allowed left out: they are
// closed at once and never reach Accept.
func (g *Guard) Listener(name string, ln net.Listener) net.Listener {
	return &guarded{Listener: ln, guard: g, name: name}
}

type guarded struct {
	net.Listener
	guard *Guard
	name  string
}

// Accept waits for the next peer that is allowed.
func (l *guarded) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.guard.Admit(l.name, AddrOf(conn.RemoteAddr())) {
			return conn, nil
		}
		_ = conn.Close() // nothing was sent or read: its outcome means nothing
	}
}
