package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// The codes of a BrokerError that Forget, Stats and Backup have beside the
// others.
const (
	CodeForbidden    = wire.CodeForbidden    // not from here; the message says how
	CodeUnauthorized = wire.CodeUnauthorized // without the token, or with another
	CodeFailed       = wire.CodeFailed       // the broker tried; the message says what was in the way
)

// ErrNoUpkeep: the broker is of a version that cannot do what is asked.
var ErrNoUpkeep = errors.New("the broker cannot do that: it is an older tbhist, or none")

// ForgetQuery says what a broker is to forget.
type ForgetQuery struct {
	// Name is the Thing; "" is the root Thing.
	Name thing.Name
	// Tree takes all Things below it, too: of the root, everything.
	Tree bool
	// DryRun only asks what would go.
	DryRun bool
}

// Forgotten is what a broker forgot, or would.
type Forgotten struct {
	Things  int
	Updates uint64 // that history held of them
	// Names are the Things in byte order, the first 1,000 of them.
	Names []thing.Name
}

// Forget takes Things out of the broker's directory and history, for ever.
// When it returns without an error, that is on disk. A Thing that is not known
// is no error: none is forgotten then. After an error other than those of the
// broker itself (*BrokerError, *NoBrokerError, ErrNoUpkeep), it may be done or
// not.
func (c *Client) Forget(ctx context.Context, q ForgetQuery) (Forgotten, error) {
	body, err := wire.ForgetRequest{NS: q.Name, Tree: q.Tree, DryRun: q.DryRun}.Marshal()
	if err != nil {
		return Forgotten{}, err
	}
	answer, err := c.upkeep(ctx, http.MethodPost, wire.PathForget, body)
	if err != nil {
		return Forgotten{}, err
	}
	var f wire.Forgotten
	if err := answer.json(&f); err != nil {
		return Forgotten{}, err
	}
	for _, name := range f.Names {
		if !thing.ValidName(name) {
			return Forgotten{}, answer.nonsense("a Thing named %.80q", name)
		}
	}
	return Forgotten(f), nil
}

// StatsQuery asks what a history holds. The zero value sums everything.
type StatsQuery struct {
	Name thing.Name // it and all Things below it
	// Depth is how many parts more than Name the prefixes have that are summed
	// each by itself; 0 gives Name alone.
	Depth int
}

// Stats is what a history holds, summed by prefix.
type Stats struct {
	Epoch string
	Head  uint64
	// At is the broker's clock.
	At    thing.Micros
	Name  thing.Name
	Depth int
	// FileBytes is the size of the history's file, MaxBytes what it may be.
	FileBytes, MaxBytes int64
	// Total sums all, Prefixes in byte order of their names.
	Total    PrefixStats
	Prefixes []PrefixStats
}

// PrefixStats sums what history holds of a Thing and those below it.
type PrefixStats struct {
	Name    thing.Name
	Things  int
	Updates uint64
	// Bytes is data and documentation URLs added up, before compression.
	Bytes int64
	// Oldest and Newest are when the first and the last update was received
	// that history holds; 0 for none.
	Oldest, Newest thing.Micros
	// Reach is how far back the ring that reaches least goes once it is full,
	// if updates go on coming as they did; ReachOf is its Thing, nil for none:
	// where nothing bounds them, or too little came to tell.
	Reach   time.Duration
	ReachOf *thing.Name
}

func prefixStatsOf(s *wire.PrefixStats) PrefixStats {
	return PrefixStats{
		Name: s.NS, Things: s.Things, Updates: s.Updates, Bytes: s.Bytes,
		Oldest: thing.Micros(s.Oldest), Newest: thing.Micros(s.Newest),
		Reach: time.Duration(s.Reach), ReachOf: s.ReachOf,
	}
}

// Stats asks what the broker's history holds.
func (c *Client) Stats(ctx context.Context, q StatsQuery) (*Stats, error) {
	values := url.Values{"ns": {string(q.Name)}, "depth": {strconv.Itoa(q.Depth)}}
	answer, err := c.upkeep(ctx, http.MethodGet, wire.PathStats+"?"+values.Encode(), nil)
	if err != nil {
		return nil, err
	}
	var w struct {
		wire.Stats
		Prefixes prefixes `json:"prefixes"`
	}
	if err := answer.json(&w); err != nil {
		return nil, err
	}
	switch {
	case !validEpoch(w.Epoch):
		return nil, answer.nonsense("a history named %.80q", w.Epoch)
	case !validStats(&w.NS, w.Total.ReachOf), !thing.ValidName(w.Total.NS):
		return nil, answer.nonsense("a Thing whose name is none")
	}
	s := &Stats{
		Epoch: w.Epoch, Head: w.Head, At: thing.Micros(w.At), Name: w.NS, Depth: w.Depth,
		FileBytes: w.FileBytes, MaxBytes: w.MaxBytes, Total: prefixStatsOf(&w.Total), Prefixes: w.Prefixes,
	}
	return s, nil
}

// prefixes are those of an answer. They are read one by one: a few bytes of
// JSON could else stand for much memory.
type prefixes []PrefixStats

// UnmarshalJSON reads a list of them, in byte order of their names.
func (p *prefixes) UnmarshalJSON(b []byte) error {
	*p = nil
	d := json.NewDecoder(bytes.NewReader(b))
	if begin, err := d.Token(); err != nil || begin != json.Delim('[') {
		return err // null
	}
	for d.More() {
		var s wire.PrefixStats
		if err := d.Decode(&s); err != nil {
			return err
		}
		n := len(*p)
		if !validStats(&s.NS, s.ReachOf) || n > 0 && s.NS <= (*p)[n-1].Name {
			return fmt.Errorf("prefix %.80q is no namespace, or not in order", s.NS)
		}
		*p = append(*p, prefixStatsOf(&s))
	}
	return nil
}

// validStats tells whether names are namespaces; nil is one.
func validStats(names ...*thing.Name) bool {
	return !slices.ContainsFunc(names, func(n *thing.Name) bool { return n != nil && !thing.ValidName(*n) })
}

// Backup asks for a copy of the broker's history as of now, in the form of
// docs/FORMAT.md, Backups. Reading gives an error when it ends before its end.
// It must be closed.
func (c *Client) Backup(ctx context.Context) (io.ReadCloser, error) {
	answer, err := c.upkeep(ctx, http.MethodGet, wire.PathBackup, nil)
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// upkeepWait is how long a broker may say nothing: it may have to wait for a
// slow disk.
const upkeepWait = 2 * time.Minute

// upkeepAnswer is a good answer to an upkeep request, as a reader.
type upkeepAnswer struct {
	ctx    context.Context
	http   *http.Response
	cancel context.CancelCauseFunc
	silent *time.Timer // ends the answer
	at     endpoint
	most   int64 // bytes of an answer that is held in memory
}

// errSilent ends an answer of which nothing comes any more.
var errSilent = errors.New("nothing more is heard from the broker")

// upkeep asks the first broker that is there. It asks no other after that:
// what was asked may be done although no answer came.
func (c *Client) upkeep(ctx context.Context, method, path string, body []byte) (*upkeepAnswer, error) {
	var at endpoint
	if err := c.each(ctx, func(e endpoint) error {
		at = e
		return c.there(ctx, e)
	}); err != nil {
		return nil, err
	}
	asking, cancel := context.WithCancelCause(ctx)
	a := &upkeepAnswer{ctx: asking, cancel: cancel, at: at, most: c.maxAnswer, silent: time.AfterFunc(upkeepWait, func() { cancel(errSilent) })}
	request, err := http.NewRequestWithContext(asking, method, "http://"+at.addr(HTTPOffset)+path, bytes.NewReader(body))
	if err == nil {
		if body != nil {
			request.Header.Set("Content-Type", "application/json")
		}
		if c.o.Token != "" {
			request.Header.Set("Authorization", "Bearer "+c.o.Token)
		}
		a.http, err = c.transport().RoundTrip(request) // of redirects there are none
	}
	if err != nil {
		err = a.lost(err)
		_ = a.Close()
		return nil, err
	}
	if a.http.StatusCode == http.StatusOK {
		return a, nil
	}
	defer func() { _ = a.Close() }()
	return nil, a.refused()
}

// there tells whether a broker's HTTP port answers at all.
func (c *Client) there(ctx context.Context, e endpoint) error {
	asking, cancel := context.WithTimeout(ctx, c.o.DialTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(asking, http.MethodGet, "http://"+e.addr(HTTPOffset)+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("asking for the broker: %w", err)
	}
	answer, err := c.transport().RoundTrip(request)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return noBroker(e, HTTPOffset, err)
	}
	_ = answer.Body.Close()
	return nil
}

// transport makes one for a single request: without a proxy, and no
// connection is left behind.
func (c *Client) transport() *http.Transport {
	dialer := net.Dialer{Resolver: c.hosts()}
	return &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: dialer.DialContext}
}

// lost says what a connection's error means.
func (a *upkeepAnswer) lost(err error) error {
	if cause := context.Cause(a.ctx); cause != nil {
		if errors.Is(cause, errSilent) {
			return fmt.Errorf("%w within %s", cause, upkeepWait)
		}
		return cause
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrLost // and no end of what is read
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// Read reads the answer.
func (a *upkeepAnswer) Read(b []byte) (int, error) {
	a.silent.Reset(upkeepWait)
	n, err := a.http.Body.Read(b)
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		return n, a.lost(err)
	}
	if why := a.http.Trailer.Get(wire.BackupError); why != "" {
		return n, &BrokerError{Code: CodeFailed, Message: visible(why)}
	}
	return n, io.EOF
}

// Close lets go of the connection.
func (a *upkeepAnswer) Close() error {
	a.silent.Stop()
	a.cancel(context.Canceled)
	if a.http == nil {
		return nil
	}
	return a.http.Body.Close()
}

// json reads an answer to its end, and closes it.
func (a *upkeepAnswer) json(into any) error {
	defer func() { _ = a.Close() }()
	r := &io.LimitedReader{R: a, N: a.most}
	if err := json.NewDecoder(r).Decode(into); err != nil {
		if r.N <= 0 {
			return a.nonsense("more than %d bytes", a.most)
		}
		var broker *BrokerError
		if errors.As(err, &broker) || errors.Is(err, ErrLost) {
			return err
		}
		return fmt.Errorf("the broker's answer cannot be read: %w", err)
	}
	return nil
}

// maxAnswer bounds the bytes of an answer that is held in memory: the stats of
// some 500,000 prefixes.
const maxAnswer = 128 << 20

// nonsense makes the error of an answer that cannot be.
func (a *upkeepAnswer) nonsense(format string, args ...any) error {
	return &NonsenseError{Addr: a.at.addr(HTTPOffset), What: fmt.Sprintf(format, args...)}
}

// maxErrorBytes bounds what is read of an answer that is no success.
const maxErrorBytes = 64 << 10

// refused gives the error of an answer that is none.
func (a *upkeepAnswer) refused() error {
	body, err := io.ReadAll(io.LimitReader(a, maxErrorBytes))
	if err != nil {
		return err
	}
	var e wire.UpkeepError
	if json.Unmarshal(body, &e) != nil || e.Type != "error" || e.Message == "" {
		if a.http.StatusCode == http.StatusNotFound {
			return ErrNoUpkeep
		}
		return fmt.Errorf("what answers at %s is no broker (%s)", a.at.addr(HTTPOffset), visible(a.http.Status))
	}
	return &BrokerError{Code: visible(e.Code), Message: visible(e.Message)}
}
