package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync"
	"syscall"

	urfave "github.com/urfave/cli/v2"

	"tbhist/migrations"
	"tbhist/store"
	"tbhist/store/bolt"
	"tbhist/thing"
)

func (p *program) dbImportCommand() *urfave.Command {
	db := text("db", "", "`FILE` that holds the history; it is made if there is none")
	db.DefaultText = "tbhist.db, in systemd's state directory if there is one"
	return &urfave.Command{
		Name:      "import",
		Usage:     "add lines of db export, replay or tail to a history file",
		ArgsUsage: "FILE…",
		Description: `Adds updates from lines of JSON to a file that no broker has open, in their
order; - is standard input:

  tbhist db import shop.json --db tbhist.db
  tbhist db import shop.json --rename shop=old.shop
  zcat old.json.gz | tbhist db import -

The lines are those of db export, of replay --format json and of tail --format
json. ts, received and documentation URL stay; seq and thing_seq are new, behind
what the file has. Limits of the file hold: those by age count from received.

Files are read through before anything is imported, and a line that is no update
refuses them all, with its number. What comes from standard input is imported up
to such a line. --lenient skips and counts them. Lines that are imported twice
are there twice.`,
		Flags: []urfave.Flag{
			db,
			&urfave.StringSliceFlag{Name: "rename", Usage: "names of a Thing and all below it, `OLD=NEW`; the most specific OLD counts; may be repeated", DefaultText: "none", EnvVars: envName("rename")},
			toggle("lenient", false, "skip and count lines that are no updates"),
			text("max-db", defaultMaxDB(), "`SIZE` that the file may have; the oldest updates go first"),
			quietFlag(),
		},
		Action: p.dbImport,
	}
}

// importing is one run of the command.
type importing struct {
	p       *program
	db      string
	maxDB   int64
	files   []string
	renames renames
	lenient bool
	maxLine int // bytes, at least those of the reader

	skipped uint64   // lines
	first   *badLine // of those
	lines   uint64   // that are updates, found beforehand; 0 if not known
}

func (p *program) dbImport(c *urfave.Context) (err error) {
	m := &importing{p: p, db: c.String("db"), files: c.Args().Slice(), lenient: c.Bool("lenient"), maxLine: maxImportLine}
	if m.db == "" {
		m.db = defaultDB()
	}
	if len(m.files) == 0 {
		return usagef("db import takes the files to import, - for standard input; tbhist db import --help")
	}
	if m.renames, err = parseRenames(c.StringSlice("rename")); err != nil {
		return err
	}
	r := &settingsReader{c: c}
	if c.IsSet("max-db") {
		m.maxDB = r.size("max-db", defaultMaxDB(), bolt.MinMaxDB, math.MaxInt)
	}
	if r.err != nil {
		return r.err
	}
	w, hide := p.startWorking(c, "reading", nil)
	defer hide()
	var done bolt.ImportInfo
	return p.finish(func(ctx context.Context) error {
		if err := m.usable(); err != nil {
			return err
		}
		if !m.lenient {
			if err := m.check(ctx, w); err != nil {
				return m.importError(err, 0)
			}
		}
		w.next("importing updates:", func(n int64) string { return grouped(uint64(n)) })
		o := bolt.ImportOptions{
			MaxDB: m.maxDB, Logger: slog.New(&importHandler{sayHandler: sayHandler{p: p}, said: map[string]bool{}}),
			Progress: func(n uint64) { w.note(int64(n), int64(m.lines)) },
		}
		var err error
		done, err = bolt.Import(ctx, m.db, o, m.updates(ctx))
		if err != nil {
			return m.importError(err, done.Updates)
		}
		m.tell(c, &done)
		return nil
	}, func() string {
		if done.Updates == 0 {
			return "nothing was imported"
		}
		return fmt.Sprintf("what came first (%s) is imported into %s and stays", updates(done.Updates), m.db)
	})
}

// usable tells early, before much is read, of a history that is in use or is
// none.
func (m *importing) usable() error {
	if err := writableDir(m.db); err != nil {
		return err
	}
	info, err := os.Stat(m.db)
	if err != nil || info.Mode().IsRegular() && info.Size() == 0 { // it will be made
		return nil
	}
	if _, err := migrations.Look(m.db); err != nil {
		return fileError(m.db, err)
	}
	return nil
}

// check reads files through, as far as they can be read twice.
func (m *importing) check(ctx context.Context, w *working) error {
	var total, done int64
	var regular []string
	for _, name := range m.files {
		if name == "-" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return inputError(name, err)
		}
		if isHistory(name) {
			return &inputFailure{fmt.Errorf("%s is a history, not lines: tbhist db export - --from-db %[1]s | tbhist db import - --db %s", name, m.db)}
		}
		if info.Mode().IsRegular() {
			regular = append(regular, name)
			total += info.Size()
		}
	}
	var lines uint64
	for _, name := range regular {
		for line, err := range m.linesOf(ctx, name) {
			if err != nil {
				return err
			}
			if _, err := m.update(line.text); err != nil {
				return &badLine{line.name, line.no, err}
			}
			lines++
			done += int64(len(line.text)) + 1
			w.note(done, total)
		}
	}
	if len(regular) == len(m.files) {
		m.lines = lines
	}
	return nil
}

// updates gives what is to be imported.
func (m *importing) updates(ctx context.Context) iter.Seq2[thing.Update, error] {
	return func(yield func(thing.Update, error) bool) {
		for _, name := range m.files {
			for line, err := range m.linesOf(ctx, name) {
				var u thing.Update
				if err == nil {
					if u, err = m.update(line.text); err != nil {
						err = &badLine{line.name, line.no, err}
					}
				}
				var bad *badLine
				if m.lenient && errors.As(err, &bad) {
					if m.skipped++; m.first == nil {
						m.first = bad
					}
					continue
				}
				if !yield(u, err) || err != nil {
					return
				}
			}
		}
	}
}

func (m *importing) importError(err error, imported uint64) error {
	if errors.Is(err, store.ErrNotKept) {
		err = fmt.Errorf("the disk of %s refuses it: free some of it, or mend it (%w)", m.db, err)
	}
	var bad *badLine
	var input *inputFailure
	switch {
	case errors.As(err, &input) && imported == 0:
		return err
	case errors.As(err, &input):
		return fmt.Errorf("%w; what came before (%s) is imported and stays", err, updates(imported))
	case errors.As(err, &bad) && imported > 0:
		return fmt.Errorf("%w; what came before it (%s) is imported and stays; --lenient skips such lines", err, updates(imported))
	case errors.As(err, &bad):
		return fmt.Errorf("%w; nothing was imported; --lenient skips such lines", err)
	case imported > 0:
		return fmt.Errorf("%w; what came before (%s) is imported and stays", fileError(m.db, err), updates(imported))
	}
	return fileError(m.db, err)
}

// importHandler says what a broker would log, each message once: a commit is
// tried again and again, and damage may be in very many places.
type importHandler struct {
	sayHandler
	mu   sync.Mutex
	said map[string]bool // messages; guarded by mu
}

// Handle is part of slog.Handler.
func (h *importHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.said[r.Message] || strings.HasPrefix(r.Message, "the disk refuses commits") {
		return nil // the import's error says it, and nothing is published here
	}
	h.said[r.Message] = true
	return h.sayHandler.Handle(ctx, r)
}

func wereUpdates(n uint64) string {
	if n == 1 {
		return "1 update was"
	}
	return grouped(n) + " updates were"
}

// tell says what came of it.
func (m *importing) tell(c *urfave.Context, done *bolt.ImportInfo) {
	if m.skipped > 0 {
		say(m.p.stderr, "%s skipped, the first: %v", linesText(m.skipped), m.first)
	}
	if done.Updates == 0 {
		m.p.note(c, "nothing was imported into %s", m.db)
		return
	}
	m.p.note(c, "%s imported into %s, as seq %s to %s", wereUpdates(done.Updates), m.db, grouped(done.First), grouped(done.Last))
}

func linesText(n uint64) string {
	if n == 1 {
		return "1 line was"
	}
	return grouped(n) + " lines were"
}

// inputFailure is why a file of lines cannot be read.
type inputFailure struct{ error }

// Unwrap gives what it is.
func (e *inputFailure) Unwrap() error { return e.error }

// inputError says why a file of lines cannot be read.
func inputError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("there is no file %s", name)
	case errors.Is(err, syscall.EISDIR):
		err = fmt.Errorf("%s is a directory: name the files in it", name)
	default:
		err = fmt.Errorf("%s cannot be read: %w", name, err)
	}
	return &inputFailure{err}
}

// update reads a line.
func (m *importing) update(line []byte) (thing.Update, error) {
	u, err := parseImported(line)
	if err != nil {
		return u, err
	}
	u.Name, err = m.renames.of(u.Name)
	return u, err
}
