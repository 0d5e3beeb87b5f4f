package cli

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"tbhist/client"
	"tbhist/thing"
)

// What is sent between two proofs that the broker has read it: so much may be
// sent twice when a connection is lost.
const (
	proveUpdates = 10_000
	proveBytes   = 16 << 20
	proveEvery   = 5 * time.Second
)

// feeder is an updatePrinter that sends updates to a broker.
//
// Nothing is acknowledged on that way but by its end: when a connection is
// closed, the broker closes its side once it has read all. So updates go in
// runs of a connection each. A run whose connection broke is sent again from
// its beginning: the broker may have some of it twice, but all of it.
type feeder struct {
	p        *program
	to       replayFeed
	question *question
	ctx      context.Context // of the command; set by begin
	began    time.Time       // what times ago are counted from
	notAgain bool            // what was replayed before is not sent

	adaptor *client.Adaptor
	run     []client.Message // sent, and not known to have arrived
	bytes   int              // of run
	since   time.Time        // when run was begun

	at, confirmed position
	sent          uint64 // messages known to have arrived
	again         uint64 // messages sent twice
	skipped       struct{ long, again, invalid uint64 }
	refusals      *refusals
}

// position is how far a replay is.
type position struct {
	after uint64 // the seq of the last update taken
	taken uint64 // how many were
}

// connect begins a run.
func (f *feeder) connect() (err error) {
	f.adaptor, err = f.to.target.NewAdaptor(client.AdaptorOptions{
		MaxMessage: 64 << 20, // the broker's limit counts
		Logger:     slog.New(sayHandler{f.p}),
	})
	f.since = time.Now()
	return err
}

func (f *feeder) print(u *thing.Update) error {
	at := position{f.at.after, f.at.taken + 1}
	if u.Kept() {
		at.after = u.Seq
	}
	m, ok := f.message(u)
	if !ok {
		f.at = at
		return nil
	}
	err := f.adaptor.SendMessage(f.ctx, m)
	var invalid *client.InvalidError
	switch {
	case errors.As(err, &invalid):
		f.skipped.invalid++
		f.at = at
		return nil
	case err != nil:
		return err
	}
	f.at, f.run = at, append(f.run, m)
	f.bytes += len(m.Data) + len(m.Doc) + len(m.Name)
	if f.broken() {
		if err := f.resend(f.ctx); err != nil {
			return err
		}
	}
	if len(f.run) >= proveUpdates || f.bytes >= proveBytes || time.Since(f.since) >= proveEvery {
		if err := f.prove(f.ctx); err != nil {
			return err
		}
		return f.connect()
	}
	return nil
}

func (f *feeder) printEntry(u *thing.Update) error { return f.print(u) }

// idle is called before a pause: over a long one, nothing is left unproven.
func (f *feeder) idle(pause time.Duration) error {
	if pause < proveEvery || len(f.run) == 0 {
		return nil
	}
	if err := f.prove(f.ctx); err != nil {
		return err
	}
	return f.connect()
}

// broken tells whether the run went over more than one connection.
func (f *feeder) broken() bool { return f.adaptor.Stats().Connections > 1 }

// prove ends the run: it returns when the broker has read all of it. There is
// no adaptor then.
func (f *feeder) prove(ctx context.Context) error {
	for {
		err := f.adaptor.Close(ctx)
		if err == nil && !f.broken() {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := f.resend(ctx); err != nil {
			return err
		}
	}
	f.sent += uint64(len(f.run))
	f.confirmed = f.at
	clear(f.run)
	f.run, f.bytes = f.run[:0], 0
	return nil
}

// resend begins the run anew, and sends all of it.
func (f *feeder) resend(ctx context.Context) error {
	for {
		f.hangUp()
		if err := f.connect(); err != nil {
			return err
		}
		f.again += uint64(len(f.run))
		for _, m := range f.run {
			if err := f.adaptor.SendMessage(ctx, m); err != nil {
				return err
			}
		}
		if !f.broken() {
			return nil
		}
	}
}

// hangUp gives up what the adaptor has not sent.
func (f *feeder) hangUp() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = f.adaptor.Close(ctx) // the run is kept
}

// finish sends what waits, and says what became of everything. err is why the
// replay ended, nil at its end; it is given back.
func (f *feeder) finish(ctx context.Context, err error) error {
	closing, cancel := ctx, context.CancelFunc(func() {})
	if err != nil || ctx.Err() != nil {
		closing, cancel = context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	}
	defer cancel()
	unproven := f.prove(closing)
	f.hangUp()
	say := func(format string, args ...any) { say(f.p.stderr, format, args...) }
	say("%s sent to %s", updates(f.sent), f.to.target.URL())
	if n := len(f.run); unproven != nil && n > 0 {
		say("of %s more it is not known whether they arrived", updates(uint64(n)))
	}
	if f.again > 0 {
		say("%s sent again because the connection was lost: the broker may have them twice", updates(f.again))
	}
	if n := f.skipped.long; n > 0 {
		say("%s skipped: with %q before them their names would be longer than %s bytes", updates(n), replayed+".", grouped(thing.MaxNameBytes))
	}
	if n := f.skipped.again; n > 0 {
		say("%s skipped: their names begin with %q already, and the broker is the same", updates(n), replayed+".")
	}
	if n := f.skipped.invalid; n > 0 {
		say("%s skipped: they can be sent to no broker", updates(n))
	}
	if n := f.refusals.since(closing); n > 0 {
		say("the broker refused %s or more meanwhile, from here or elsewhere; tbhist refused --broker %s tells why", messages(n), f.to.target.URL())
	}
	if err != nil || ctx.Err() != nil || unproven != nil {
		say("to go on: the same command with %s", f.goOn())
	}
	if err == nil {
		err = unproven
	}
	return err
}

func messages(n uint64) string {
	if n == 1 {
		return "1 message"
	}
	return grouped(n) + " messages"
}

// refusals counts what a broker refuses from a moment on.
type refusals struct {
	target *client.Client
	known  bool
	newest thing.Micros // by its clock
}

func newRefusals(ctx context.Context, target *client.Client) *refusals {
	r := &refusals{target: target}
	all, err := target.Refused(ctx)
	if err != nil {
		return r // it may be a broker that does not tell
	}
	r.known = true
	for _, one := range all {
		r.newest = max(r.newest, one.Time)
	}
	return r
}

// since counts the newer ones, as far as the broker lists them.
func (r *refusals) since(ctx context.Context) (n uint64) {
	if !r.known {
		return 0
	}
	all, err := r.target.Refused(ctx)
	if err != nil {
		return 0
	}
	for _, one := range all {
		if one.Time > r.newest {
			n += 1 + one.Suppressed
		}
	}
	return n
}
