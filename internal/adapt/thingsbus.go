package adapt

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"time"

	"tbhist/client"
	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// Thingsbus takes the updates of other brokers, of the original thingsbus or
// of tbhist, from their live feeds, and leaves namespace, time and
// documentation URL as they are.
//
// What a live feed sends is sent on as it comes. Entries of its snapshots are
// sent on for Things that are silent, and for what was missed while there was
// no connection: where the entry is newer, by its time, than all that this
// program has sent or, by its directory, the broker has. So nothing comes
// twice, and no snapshot takes a Thing back to older data. An update with the
// time and data of the one before it of its Thing is skipped as known.
//
// The broker must not be, by way of other bridges, a source of its sources:
// updates would go round for ever.
type Thingsbus struct {
	// Sources are the addresses of live feeds (main ports), as
	// tcp://HOST:PORT.
	Sources []string
	// Name is the Thing to take, with all below it.
	Name   thing.Name
	Bridge *Bridge
	// Target is the broker, to be asked for its directory.
	Target *client.Client
	Logger *slog.Logger
}

// silence is how long a source may send nothing at all. A broker of either
// kind sends something every 15 s.
const silence = time.Minute

// Bounds on what a broker sends: an original's snapshot is one frame.
const (
	maxFeedFrame   = 128 << 20
	maxFeedMessage = 256 << 20
)

// Run takes updates from all sources, each connected again whenever it is
// lost, until ctx ends. The error then is that of ctx.
func (b *Thingsbus) Run(ctx context.Context) error {
	if slices.Contains(b.Sources, b.Target.URL()) {
		return fmt.Errorf("%s is both read from and sent to: every update would be there twice", b.Target.URL())
	}
	var running sync.WaitGroup
	defer running.Wait()
	for _, source := range b.Sources {
		f := &foreign{Thingsbus: b, source: source, known: make(map[thing.Name]version), log: b.Logger.With("source", source)}
		d := zmtp.Dialer{DialOptions: zmtp.DialOptions{
			Role: zmtp.Sub, Limits: zmtp.Limits{MaxFrame: maxFeedFrame, MaxMessage: maxFeedMessage, MaxBuffered: 4 * maxFeedFrame},
			Heartbeat: heartbeat, Logger: f.log,
		}}
		running.Go(func() {
			// It ends with ctx only.
			_ = d.Run(ctx, func(int) (string, error) { return source, nil }, f.receive)
		})
	}
	<-ctx.Done()
	return ctx.Err()
}

// version tells updates of one Thing apart.
type version struct {
	ts   float64
	data uint64 // a hash
}

var seed = maphash.MakeSeed()

func versionOf(u *client.Update) version {
	return version{u.TS, maphash.Bytes(seed, u.Data)}
}

// foreign is one other broker.
type foreign struct {
	*Thingsbus
	source string
	log    *slog.Logger
	// known is the newest of each Thing: sent on from here, or found in the
	// broker's directory.
	known map[thing.Name]version
	// asked: the directory was looked at on this connection.
	asked bool
	// epoch and pos are where the source's numbers stand; pos is 0 while
	// that is not known, as with the original, which has none.
	epoch string
	pos   uint64
}

// receive takes what one connection brings until it ends.
func (f *foreign) receive(ctx context.Context, c *zmtp.Conn) error {
	// Heartbeats are the last, as the first one then tells that all
	// subscriptions are at work.
	for _, prefix := range append(wire.Prefix(f.Name, true), []byte(wire.SnapshotPrefix), []byte(wire.HeartbeatPrefix)) {
		if err := c.Subscribe(prefix); err != nil {
			return err
		}
	}
	f.Bridge.SourceUp()
	defer f.Bridge.SourceDown()
	f.log.Info("connected to the source")
	f.asked = false
	silent := time.AfterFunc(silence, func() { _ = c.Close() })
	defer silent.Stop()
	for {
		frames, err := zmtp.ReadMessage(c)
		if err != nil {
			return fmt.Errorf("%s: %w", f.source, err)
		}
		silent.Reset(silence)
		for _, frame := range frames {
			if err := f.message(ctx, frame); err != nil {
				return err
			}
		}
	}
}

func (f *foreign) message(ctx context.Context, frame []byte) error {
	m, err := wire.ParseMessage(frame)
	if err != nil {
		f.Bridge.Received()
		f.Bridge.Skip(skip(ReasonInvalid, "a message of the live feed: %v", err), f.source, frame)
		return nil
	}
	switch m.Kind {
	case wire.KindUpdate:
		f.count(m.Update.Seq)
		return f.update(ctx, &m.Update, frame)
	case wire.KindSnapshot:
		if m.Skipped > 0 {
			f.Bridge.skipMany(skip(ReasonInvalid, "entries of a snapshot"), uint64(m.Skipped), f.source, frame)
		}
		return f.snapshot(ctx, &m.Snapshot)
	case wire.KindHeartbeat:
		f.heartbeat(&m.Heartbeat)
	case wire.KindUnknown:
	}
	return nil
}

// update sends a live update on.
func (f *foreign) update(ctx context.Context, u *client.Update, sample []byte) error {
	f.Bridge.Received()
	v := versionOf(u)
	if f.known[u.Name] == v && v != (version{}) {
		f.Bridge.Skip(&Skip{Reason: ReasonKnown}, f.source, sample)
		return nil
	}
	return f.send(ctx, u, v, sample)
}

func (f *foreign) send(ctx context.Context, u *client.Update, v version, sample []byte) error {
	f.known[u.Name] = v
	return f.Bridge.Send(ctx, client.Message{Name: u.Name, Data: u.Data, TS: &u.TS, Doc: u.Doc}, f.source, sample)
}

// snapshot sends the entries on that are news.
func (f *foreign) snapshot(ctx context.Context, s *wire.Snapshot) error {
	if !f.asked {
		if !f.ask(ctx) {
			return nil // the next snapshot will do
		}
		f.asked = true
	}
	for i := range s.Entries {
		e := &s.Entries[i]
		known, ok := f.known[e.Update.Name]
		if !e.Update.Name.Under(f.Name) || ok && e.Update.TS <= known.ts {
			continue
		}
		f.Bridge.Received()
		u := e.Update
		u.Doc = e.Doc
		if err := f.send(ctx, &u, versionOf(&u), u.Data); err != nil {
			return err
		}
	}
	return nil
}

// ask looks at the broker's directory, so that what it has is not sent again.
// It tells whether snapshots can be dealt with now.
func (f *foreign) ask(ctx context.Context) bool {
	for e, err := range f.Target.Things(ctx, client.ThingsQuery{Name: f.Name}) {
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return false
		case f.Bridge.Connected():
			// It takes updates and has no history: an original.
			f.log.Warn("the broker's directory cannot be read: what it has of silent Things is sent once more", "err", err)
			return true
		default:
			return false
		}
		if known, ok := f.known[e.Update.Name]; !ok || e.Update.TS > known.ts {
			f.known[e.Update.Name] = versionOf(&e.Update)
		}
	}
	return true
}

// count follows the numbers of live updates; 0 is none.
func (f *foreign) count(seq uint64) {
	if seq == 0 || f.pos == 0 {
		return
	}
	if f.Name == "" && seq > f.pos+1 {
		f.missed(seq - f.pos - 1)
	}
	f.pos = max(f.pos, seq)
}

// heartbeat counts what did not come: by the numbers, or of a part of the
// tree, by what the source says.
func (f *foreign) heartbeat(h *wire.Heartbeat) {
	switch {
	case h.Epoch != f.epoch || h.Seq < f.pos:
		f.epoch = h.Epoch
	case f.Name != "":
		f.missed(h.Skipped)
	case h.Seq > f.pos && f.pos > 0:
		f.missed(h.Seq - f.pos)
	}
	f.pos = h.Seq
}

func (f *foreign) missed(n uint64) {
	if n > 0 {
		f.Bridge.skipMany(skip(ReasonMissed, "updates did not come: the connection was lost, or this program too slow; of each Thing the newest comes with the next snapshot"), n, f.source, nil)
	}
}
