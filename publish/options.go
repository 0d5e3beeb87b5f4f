package publish

import (
	"context"
	"log/slog"
	"time"

	"tbhist/internal/wire"
	"tbhist/metrics"
	"tbhist/store"
	"tbhist/thing"
)

// History is what publish takes of a store.Store: reading, from any number
// of goroutines.
type History interface {
	Read(ctx context.Context, q store.Query, yield func(*thing.Update) bool) (store.Page, error)
	AsOf(ctx context.Context, q store.AsOf, yield func(*store.PastEntry) bool) (head uint64, err error)
	Kept(ctx context.Context, names []thing.Name, yield func(i int, updates uint64, oldest thing.Micros)) error
	State() store.State
}

// Directory is what publish takes of the directory, as functions that may be
// called from any goroutine. The types below have the fields of the
// directory's own, so that one converts to the other.
type Directory struct {
	// Snapshot makes a snapshot that is consistent as of one Position.
	Snapshot func(o SnapshotOptions) *Snapshot
	// Walk calls yield with the entries of under (and all below it, if
	// tree) whose name is > *after, unless that is nil, in byte order of
	// names, until it returns false. An entry is valid during the call.
	Walk func(after *thing.Name, under thing.Name, tree bool, yield func(*Entry) bool)
}

// SnapshotOptions say how a snapshot is to be made.
type SnapshotOptions struct {
	Epoch string
	// Now is the snapshot's ts.
	Now thing.Micros
	// Expire, unless 0, hides entries whose ts is longer ago than this.
	Expire time.Duration
	// MaxPart is how many bytes a message of it may have before it is sent
	// in several.
	MaxPart int
	// Head is the newest seq published, for a directory that knows of none
	// above it.
	Head uint64
}

// Snapshot is the directory as messages.
type Snapshot struct {
	// Frames are the messages, each complete by itself.
	Frames [][]byte
	// Seq is the newest seq that the directory has.
	Seq uint64
	// Position is the ordinal of the last batch applied to the directory.
	Position uint64
	// Bytes is the size of all frames together, Entries how many Things they
	// list.
	Bytes, Entries int
}

// Entry is one Thing of the directory.
type Entry struct {
	Update  thing.Update
	Doc     []byte        // sticky documentation URL, nil for none
	Source  *thing.Source // of the last update, nil when not known
	Sources int           // how many sources in the last hour
	Updates uint64        // of this Thing, those before a restart included
}

// Options are what a Publisher works with.
type Options struct {
	// Store and all of Directory are required.
	Store     History
	Directory Directory
	// Refusals gives the newest refusals, oldest first; nil for none.
	Refusals func() []wire.Refused

	// Metrics may be nil, and so may each part of it.
	Metrics         *metrics.Publish
	SnapshotMetrics *metrics.Snapshot
	HistoryMetrics  *metrics.History
	Logger          *slog.Logger     // nil: slog.Default()
	Now             func() time.Time // nil: time.Now

	// WindowBytes bounds the newest updates held in memory. 0: 16 MiB. The
	// newest chunk is always held, however large.
	WindowBytes int
	// SnapshotInterval is the time between snapshots on the feed. 0: 15 s.
	SnapshotInterval time.Duration
	// SnapshotExpire hides entries with an older ts in snapshots of the
	// feed. 0: hides none.
	SnapshotExpire time.Duration
	// Heartbeat is the time between heartbeats. 0: 5 s.
	Heartbeat time.Duration
	// MaxLag is how far a subscriber may be behind, now less the time its
	// next update was received, before it is moved to the present. 0: 60 s;
	// negative: without bound.
	MaxLag time.Duration
}

// Defaults of Options.
const (
	DefaultWindowBytes      = 16 << 20
	DefaultSnapshotInterval = 15 * time.Second
	DefaultHeartbeat        = 5 * time.Second
	DefaultMaxLag           = 60 * time.Second
)

func (o Options) withDefaults() Options {
	if o.Metrics == nil {
		o.Metrics = metrics.NewPublish(nil)
	}
	if o.SnapshotMetrics == nil {
		o.SnapshotMetrics = metrics.NewSnapshot(nil)
	}
	if o.HistoryMetrics == nil {
		o.HistoryMetrics = metrics.NewHistory(nil)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.WindowBytes == 0 {
		o.WindowBytes = DefaultWindowBytes
	}
	if o.SnapshotInterval == 0 {
		o.SnapshotInterval = DefaultSnapshotInterval
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = DefaultHeartbeat
	}
	if o.MaxLag == 0 {
		o.MaxLag = DefaultMaxLag
	}
	return o
}
