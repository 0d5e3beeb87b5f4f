package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// importLine is a line of a file, without its end. text is valid until the
// next one.
type importLine struct {
	name string
	no   int // from 1
	text []byte
}

// badLine is a line that is no update.
type badLine struct {
	name string
	no   int
	err  error
}

// Error says where it is, and what is wrong.
func (e *badLine) Error() string {
	name := e.name
	if name == "-" {
		name = "standard input"
	}
	return fmt.Sprintf("%s, line %d: %v", name, e.no, e.err)
}

// Unwrap gives what is wrong.
func (e *badLine) Unwrap() error { return e.err }

// maxImportLine bounds a line: the largest update, written at its longest.
const maxImportLine = maxUpdateLimit + 64<<10

var errLongLine = fmt.Errorf("it is longer than the longest update (%s)", formatSize(maxUpdateLimit))

// linesOf gives the lines of a file that are not blank.
func (m *importing) linesOf(ctx context.Context, name string) iter.Seq2[importLine, error] {
	return func(yield func(importLine, error) bool) {
		var in io.Reader = os.Stdin
		if name != "-" {
			f, err := os.Open(name)
			if err != nil {
				yield(importLine{}, inputError(name, err))
				return
			}
			defer func() { _ = f.Close() }()
			in = f
		} else {
			in = newInterruptible(ctx, in)
		}
		lines := bufio.NewReaderSize(in, 256<<10)
		if begin, _ := lines.Peek(2); string(begin) == "\x1f\x8b" {
			yield(importLine{}, &inputFailure{fmt.Errorf("%s is compressed by gzip: zcat %[1]s | tbhist db import -", name)})
			return
		}
		var long []byte
		for no := 1; ; no++ {
			text, whole, err := nextLine(lines, &long, m.maxLine)
			if ctx.Err() != nil {
				yield(importLine{}, context.Cause(ctx))
				return
			}
			if err != nil && !errors.Is(err, io.EOF) {
				yield(importLine{}, inputError(name, err))
				return
			}
			switch text = bytes.TrimSpace(text); {
			case !whole:
				if !yield(importLine{}, &badLine{name, no, errLongLine}) {
					return
				}
			case len(text) > 0:
				if !yield(importLine{name, no, text}, nil) {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
}

// interruptibleReader is a reader whose waiting ends with a context, as that for
// somebody who types does not.
type interruptibleReader struct {
	ctx  context.Context
	more chan inputPiece
	rest []byte
	err  error
}

type inputPiece struct {
	bytes []byte
	err   error
}

// newInterruptible starts a goroutine that ends with the input; after ctx, with
// what it waits for then, or with the process.
func newInterruptible(ctx context.Context, in io.Reader) io.Reader {
	r := &interruptibleReader{ctx: ctx, more: make(chan inputPiece)}
	go func() {
		for {
			b := make([]byte, 64<<10)
			n, err := in.Read(b)
			select {
			case r.more <- inputPiece{b[:n], err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return r
}

func (r *interruptibleReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		select {
		case piece := <-r.more:
			r.rest, r.err = piece.bytes, piece.err
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// nextLine reads a line; whole is false for one of more than most bytes, of
// which nothing is given. long is memory for lines longer than the reader's.
func nextLine(r *bufio.Reader, long *[]byte, most int) (line []byte, whole bool, err error) {
	line, err = r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, true, err
	}
	*long = append((*long)[:0], line...)
	whole = true
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = r.ReadSlice('\n')
		if whole = whole && len(*long)+len(line) <= most+len("\r\n"); whole {
			*long = append(*long, line...)
		}
	}
	if !whole {
		return nil, false, err
	}
	return *long, true, err
}

// parseImported reads a line of db export, replay or tail.
func parseImported(line []byte) (thing.Update, error) {
	u, err := wire.ParseUpdate(line)
	switch {
	case err != nil:
		return u, err
	case u.Received == 0:
		return u, errors.New(`it has no "received", as lines of db export, replay and tail have`)
	}
	u.Seq, u.ThingSeq = 0, 0
	return u, nil
}

// rename is one of --rename.
type rename struct{ from, to thing.Name }

// renames are all of them, the most specific first.
type renames []rename

func parseRenames(all []string) (renames, error) {
	var rs renames
	for _, s := range all {
		from, to, ok := strings.Cut(s, "=")
		if !ok {
			return nil, usagef("--rename: %q is not OLD=NEW, as shop=old.shop", s)
		}
		var r rename
		var err error
		if r.from, err = parseNS(from); err == nil {
			r.to, err = parseNS(to)
		}
		if err != nil {
			return nil, usagef("--rename: %v", err)
		}
		if slices.ContainsFunc(rs, func(other rename) bool { return other.from == r.from }) {
			return nil, usagef("--rename: %s is given twice", nameText(r.from))
		}
		rs = append(rs, r)
	}
	slices.SortStableFunc(rs, func(a, b rename) int { return len(b.from) - len(a.from) })
	return rs, nil
}

// of gives the name that a Thing is to have.
func (rs renames) of(name thing.Name) (thing.Name, error) {
	for _, r := range rs {
		if !name.Under(r.from) {
			continue
		}
		rest := strings.TrimPrefix(string(name[len(r.from):]), ".")
		to := string(r.to)
		if rest != "" && to != "" {
			to += "."
		}
		if to += rest; len(to) > thing.MaxNameBytes {
			return "", fmt.Errorf("renamed, its namespace would be longer than %s bytes", grouped(thing.MaxNameBytes))
		}
		return thing.Name(to), nil
	}
	return name, nil
}
