package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"tbhist/directory"
	"tbhist/ingest"
	"tbhist/internal/access"
	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/metrics"
	"tbhist/migrations"
	"tbhist/publish"
	"tbhist/store"
	"tbhist/store/bolt"
	"tbhist/thing"
)

// broker is one broker, put together. Make it with openBroker, then Run it;
// Run closes it.
//
//	P+1 ZeroMQ ─▶ input ─┐                                          ┌▶ feed ──▶ P ZeroMQ
//	                     ├▶ ingest ─▶ pipeline ─▶ publisher (window) ┤
//	P+1 UDP ────▶ udp ───┘            │      ▲                       └▶ history ◀▶ P+2 ZeroMQ
//	                                  ▼      │ committed                  │
//	                         ┌─────▶ store ──┴─▶ directory ◀──────────────┤
//	                         │     (bbolt file)     (memory)              │
//	                         └───────────── pages of history ◀────────────┘
//
//	P+3 HTTP ◀─ metrics, health
//
// The parts that have goroutines, each started and waited for by Run: input,
// udp, pipeline, clock (the publisher's heartbeats and snapshots), feed,
// history, http.
type broker struct {
	s       settings
	log     *slog.Logger
	metrics *metrics.Metrics

	sockets   *sockets
	db        *bolt.DB
	directory *directory.Directory
	ingest    *ingest.Ingest
	publisher *publish.Publisher

	input, feed, history *zmtp.Listener
	memory               *zmtp.Memory // of all three
	http                 *http.Server

	// piped is closed when the pipeline has ended.
	piped chan struct{}

	// pulse tells whether the pipeline moves, watchdog systemd of it; nil
	// where there is none.
	pulse    pulse
	watchdog *watchdog

	// unready says why the broker cannot be used now; nil while it can.
	unready atomic.Pointer[string]
}

// peerHeartbeat is how often a silent ZeroMQ peer that knows heartbeats is
// asked whether it is still there.
const peerHeartbeat = 30 * time.Second

// oversize is the size up to which a message that is too large is read past
// and refused as such; a larger one ends its connection.
const oversize = 256 << 20

// What ZeroMQ peers together may make the broker hold of what they have not
// sent whole, in bytes, see zmtp.NewMemory. Bodies have more where updates may
// be larger.
const (
	peerBuffers = 8 << 20
	peerBodies  = 8 << 20
)

// reasonLimit is the reason, one of zmtp.RefuseReasons, for which the HTTP
// port refuses a connection beyond its number.
const reasonLimit = "limit"

// openBroker opens the sockets and the history, and restores what is known.
// Sockets come first: a second broker started by mistake shall not wait for,
// nor touch, the history of the first.
func openBroker(s settings, log *slog.Logger) (b *broker, err error) {
	b = &broker{s: s, log: log, piped: make(chan struct{})}
	b.setUnready("starting")
	b.metrics = metrics.New(metrics.Options{
		Version:       version(),
		Transports:    ingest.TransportNames(),
		RefuseReasons: ingest.ReasonCodes(),
		Listeners:     endpoints,
		ConnReasons:   append([]string{access.ReasonNotAllowed}, zmtp.RefuseReasons...),
	})
	if b.sockets, err = openSockets(s.host, s.port); err != nil {
		return nil, err
	}
	b.db, err = bolt.Open(s.db, bolt.Options{Rules: s.rules, MaxDB: s.maxDB, Logger: log, Metrics: b.metrics.Store, Now: s.now})
	if err != nil {
		b.sockets.close()
		return nil, openError(s.db, err)
	}
	b.assemble()
	if err := b.restore(); err != nil {
		b.sockets.close()
		return nil, errors.Join(fmt.Errorf("reading the history %s: %w", s.db, err), b.db.Close())
	}
	log.Info("history "+s.db+": "+b.db.Summary(), "epoch", b.db.State().Epoch)
	b.assemblePublisher()
	return b, nil
}

// assemble makes the parts before the store.
func (b *broker) assemble() {
	guard := func(list *access.List, flag string) *access.Guard {
		return access.NewGuard(list, access.GuardOptions{
			Flag: flag, Logger: b.log,
			Refused: func(listener string) { b.metrics.Connections.Refused(listener, access.ReasonNotAllowed) },
		})
	}
	in, out := guard(b.s.allowInput, "--allow-input"), guard(b.s.allowOutput, "--allow-output")
	b.memory = zmtp.NewMemory(peerBuffers, max(peerBodies, 4*int64(b.s.maxUpdate)))

	b.directory = directory.New(directory.Options{Now: b.s.now})
	b.ingest = ingest.New(ingest.Options{
		Limits:    wire.Limits{MaxBytes: b.s.maxUpdate},
		MaxThings: b.s.maxThings,
		Deny:      b.s.deny,
		Rate:      b.s.inputRate,
		Guard:     in,
		Metrics:   b.metrics.Ingest,
		Logger:    b.log,
		Now:       b.s.now,
	})
	b.input = b.listener(endpointInput, b.sockets.input, zmtp.Sub, in, b.ingest.ServeZMQ, func(l *zmtp.Limits) {
		l.MaxFrame = int64(b.s.maxUpdate)
		l.MaxOversize = oversize
		l.MaxMessage = 0 // what fits MaxFrame
	})
	b.feed = b.listener(endpointFeed, b.sockets.feed, zmtp.Pub, out,
		func(ctx context.Context, c *zmtp.Conn) { b.publisher.ServeFeed(ctx, c) },
		func(l *zmtp.Limits) { l.WriteDeadline = b.s.writeDeadline })
	b.history = b.listener(endpointHistory, b.sockets.history, zmtp.Router, out,
		func(ctx context.Context, c *zmtp.Conn) { b.publisher.ServeHistory(ctx, c) },
		func(l *zmtp.Limits) {
			publish.LimitRequests(l)
			l.WriteDeadline = b.s.writeDeadline
		})
	b.sockets.http = limitConns(out.Listener(endpointHTTP, b.sockets.http), maxHTTPConns, maxHTTPAddr,
		func() { b.metrics.Connections.Refused(endpointHTTP, reasonLimit) })
}

func (b *broker) listener(name string, ln net.Listener, role zmtp.Role, guard *access.Guard,
	serve func(context.Context, *zmtp.Conn), limit func(*zmtp.Limits),
) *zmtp.Listener {
	var limits zmtp.Limits // zero parts take the defaults of the role
	limit(&limits)
	return zmtp.NewListener(ln, zmtp.ListenerOptions{
		Name: name, Role: role, Limits: limits, Memory: b.memory, Heartbeat: peerHeartbeat,
		Admit:   func(a netip.Addr) bool { return guard.Admit(name, a) },
		Refused: b.metrics.Connections.Listener(name),
		Logger:  b.log,
	}, serve)
}

// restore brings back the directory from the store.
func (b *broker) restore() error {
	return b.db.Latest(func(u *thing.Update, doc []byte) bool {
		b.directory.Restore(u, doc, u.ThingSeq)
		b.ingest.Know(u.Name)
		return true
	})
}

// assemblePublisher makes the parts behind the store; the directory must be
// restored.
func (b *broker) assemblePublisher() {
	b.publisher = publish.New(publish.Options{
		Store: b.db,
		Directory: publish.Directory{
			Snapshot: func(o publish.SnapshotOptions) *publish.Snapshot {
				return (*publish.Snapshot)(b.directory.Snapshot(directory.SnapshotOptions(o)))
			},
			Walk: func(after *thing.Name, under thing.Name, tree bool, yield func(*publish.Entry) bool) {
				b.directory.Walk(after, under, tree, func(e *directory.Entry) bool { return yield((*publish.Entry)(e)) })
			},
		},
		Refusals:         b.refusals,
		Metrics:          b.metrics.Publish,
		SnapshotMetrics:  b.metrics.Snapshot,
		HistoryMetrics:   b.metrics.History,
		Logger:           b.log,
		Now:              b.s.now,
		SnapshotInterval: b.s.snapshotInterval,
		SnapshotExpire:   b.s.snapshotExpire,
		MaxLag:           b.s.maxLag,
	})
	b.metrics.Store.Observe(b.db.Stats)
	b.metrics.ObserveThings(b.s.metricsThings, b.samples)
	b.http = newHTTPServer(b.publisher.HTTP(publish.HTTPOptions{
		Metrics: b.metrics.Handler(),
		Health:  b.healthy,
		Ready:   b.ready,
		Upkeep:  b.upkeep(),
	}), b.log)
}

func (b *broker) refusals() []wire.Refused {
	refusals := b.ingest.Refusals()
	lines := make([]wire.Refused, len(refusals))
	for i, r := range refusals {
		lines[i] = wire.Refused{
			Time: r.Time, Source: r.Source.String(), Transport: r.Transport.String(),
			Reason: r.Reason.String(), Taken: r.Taken, Sample: r.Sample, Suppressed: r.Suppressed,
		}
	}
	return lines
}

// samples gives the directory to the metrics.
func (b *broker) samples(yield func(metrics.ThingSample) bool) {
	b.directory.Walk(nil, "", true, func(e *directory.Entry) bool {
		return yield(metrics.ThingSample{
			Name: string(e.Update.Name), TS: e.Update.TS, Received: e.Update.Received.Seconds(), Updates: e.Updates,
		})
	})
}

func (b *broker) setUnready(why string) { b.unready.Store(&why) }

// ready is the answer of /readyz.
func (b *broker) ready() error {
	if why := b.unready.Load(); why != nil {
		return errors.New(*why)
	}
	return nil
}

// healthy is the answer of /healthz.
func (b *broker) healthy() error {
	if why := b.db.State().Degraded; why != "" {
		return errors.New("degraded: updates are not kept: " + why)
	}
	return nil
}

// openError says in one sentence why a history cannot be opened, and what to
// change.
func openError(path string, err error) error {
	why := func(format string, args ...any) error {
		return &startError{msg: fmt.Sprintf(format, args...), err: err}
	}
	var newer *migrations.NewerError
	switch {
	case errors.Is(err, store.ErrLocked):
		return why("the history %s is in use by another process: stop that one, or choose another file with --db", path)
	case errors.As(err, &newer):
		return why("the history %s was written by a newer tbhist (format %d, this one knows up to %d): use that one, or choose another file with --db", path, newer.Found, newer.Current)
	case errors.Is(err, store.ErrNotHistory):
		return why("%s is not a tbhist history: choose another file with --db", path)
	case errors.Is(err, store.ErrDamaged):
		return why("the history %s is too damaged to be opened (tbhist db check %[1]s says where): put a backup in its place, or choose another file with --db", path)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return why("the history %s cannot be written by this user: choose another file with --db", path)
	case errors.Is(err, fs.ErrNotExist):
		return why("there is no directory %s for the history: make it, or choose another file with --db", filepath.Dir(path))
	case errors.Is(err, syscall.EISDIR):
		return why("%s is a directory: choose a file with --db", path)
	case errors.Is(err, syscall.ENOSPC):
		return why("the disk of the history %s is full: free some, or choose another file with --db", path)
	}
	return why("the history %s cannot be opened: %v; another file is chosen with --db", path, err)
}
