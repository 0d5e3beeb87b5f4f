package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/migrations"
	"tbhist/store"
	"tbhist/store/bolt"
	"tbhist/thing"
)

// fromDB gives the file that is to be read instead of a broker, "" for none.
// As with --zone and --broker, the command line counts more than the
// environment.
func fromDB(c *urfave.Context) (string, error) {
	file := c.String("from-db")
	if file == "" {
		return "", nil
	}
	for _, other := range []string{"broker", "zone"} {
		switch {
		case !c.IsSet(other) || !onLine(c, other):
		case onLine(c, "from-db"):
			return "", usagef("--from-db %s and --%s %s are both given: a file is read without a broker; leave one out", file, other, c.String(other))
		default:
			return "", nil
		}
	}
	if c.Bool("follow") {
		return "", usagef("--from-db reads what a file has, to which nothing comes: it cannot go with --follow")
	}
	return file, nil
}

// dbSource is a history file that no broker has open.
type dbSource struct {
	db  *bolt.ReadOnly
	now time.Time
	// damaged counts what is met of damage.
	damaged *atomic.Uint64
}

// openDB opens a file to read from.
func (p *program) openDB(path string) (*dbSource, error) {
	log := &damageHandler{sayHandler: sayHandler{p: p}, met: new(atomic.Uint64)}
	db, err := bolt.OpenReadOnly(path, bolt.Options{Logger: slog.New(log), Now: p.now})
	if err != nil {
		return nil, readError(path, err)
	}
	return &dbSource{db: db, now: p.now(), damaged: log.met}, nil
}

// readError says in one sentence why a history cannot be read, and what to do.
func readError(path string, err error) error {
	var newer *migrations.NewerError
	switch {
	case errors.Is(err, store.ErrLocked):
		who, kind := "another process", "it"
		if holder := lockHolder(path); holder != "" {
			who, kind = holder, "that"
		}
		return fmt.Errorf("the history %s is in use by %s: ask the broker itself, with --broker, or stop %s", path, who, kind)
	case errors.As(err, &newer):
		return fmt.Errorf("the history %s was written by a newer tbhist (format %d, this one knows up to %d): use that one", path, newer.Found, newer.Current)
	case errors.Is(err, store.ErrNotHistory):
		return fmt.Errorf("%s is not a tbhist history", path)
	case errors.Is(err, store.ErrDamaged):
		return fmt.Errorf("the history %s is too damaged to be read (tbhist db check %[1]s says where): use a backup, or let tbhist serve open a copy of it, which sets aside what is damaged", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the history %s cannot be read by this user", path)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no file %s", path)
	case errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%s is a directory: a history is a file, such as %[1]s/tbhist.db", path)
	}
	return fmt.Errorf("the history %s cannot be read: %w", path, err)
}

// sayHandler says what goes wrong, for a log that people read as they wait.
type sayHandler struct{ p *program }

func (h sayHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (h sayHandler) Handle(_ context.Context, r slog.Record) error {
	msg := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "err" {
			msg += ": " + a.Value.String()
		}
		return true
	})
	say(h.p.stderr, "%s", msg)
	return nil
}

func (h sayHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h sayHandler) WithGroup(string) slog.Handler { return h }

// damageHandler counts damage, which is what is logged as an error, and says
// the first places of it.
type damageHandler struct {
	sayHandler
	met *atomic.Uint64
}

// damagePlaces is how many are said one by one.
const damagePlaces = 5

func (h *damageHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError && h.met.Add(1) > damagePlaces {
		return nil
	}
	return h.sayHandler.Handle(ctx, r)
}

// replay answers q as the history service would, by this machine's clock.
func (s *dbSource) replay(ctx context.Context, q *question) answer {
	a := &dbAnswer{known: known{exact: true, epoch: s.db.State().Epoch}, damaged: s.damaged}
	a.all = func(yield func(client.Update, error) bool) {
		err := a.read(ctx, s.db, s.query(q), func(u *thing.Update) bool { return yield(*u, nil) })
		if err != nil {
			yield(client.Update{}, err)
		}
	}
	return a
}

func (s *dbSource) query(q *question) store.Query {
	sq := store.Query{Name: q.Name, Tree: !q.Alone, After: q.After, Last: q.Last, Limit: q.Limit}
	if q.ByTS {
		sq.By = store.ByTS
	}
	for at, t := range map[**thing.Micros]*instant{&sq.Since: q.since, &sq.Until: q.until} {
		if t != nil {
			m := max(t.resolve(s.now), earliest)
			*at = &m
		}
	}
	return sq
}

func (s *dbSource) things(context.Context) (names []string, err error) {
	err = s.db.Latest(func(u *thing.Update, _ []byte) bool {
		names = append(names, string(u.Name))
		return true
	})
	return names, err
}

func (s *dbSource) close() error { return s.db.Close() }

// dbAnswer is an answer from a file.
type dbAnswer struct {
	known
	all     iter.Seq2[client.Update, error]
	damaged *atomic.Uint64
}

func (a *dbAnswer) updates() iter.Seq2[client.Update, error] { return a.all }

func (a *dbAnswer) knows() known {
	k := a.known
	k.damaged = a.damaged.Load()
	return k
}

// read reads page after page; yield returns false to end it.
func (a *dbAnswer) read(ctx context.Context, db *bolt.ReadOnly, q store.Query, yield func(*thing.Update) bool) error {
	a.head = db.State().Head // it is all there
	for stopped := false; ; {
		page, err := db.Read(ctx, q, func(u *thing.Update) bool {
			stopped = !yield(u)
			return !stopped
		})
		switch {
		case stopped:
			return nil
		case err != nil:
			return err
		}
		a.evicted += page.Evicted
		a.exact = a.exact && (page.EvictedExact || page.Evicted == 0)
		if page.Next == nil {
			return nil
		}
		q.Resume = page.Next
	}
}
