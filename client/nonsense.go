package client

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// NonsenseError tells that what answers as a broker breaks the protocol
// (docs/PROTOCOL.md): it is broken, or none. What came before it may be wrong,
// too; asking again helps only if something else answers then.
type NonsenseError struct {
	Addr string // HOST:PORT of what answers
	What string // what is wrong, in words
}

// Error says where, and what.
func (e *NonsenseError) Error() string {
	return "the broker at " + e.Addr + " answers nonsense: " + e.What
}

// nonsense makes the error of a connection to one of the ports.
func (c *connection) nonsense(format string, args ...any) error {
	return &NonsenseError{Addr: c.at.addr(c.offset), What: fmt.Sprintf(format, args...)}
}

const (
	// maxCursor bounds a page's cursor, in bytes: with room for the rest of a
	// request it is as large as a broker takes back. Where the last updates of
	// each Thing are asked for, it has a number of each.
	maxCursor = 1532 << 10
	// maxEpoch bounds the name of a history, in bytes.
	maxEpoch = 64
	// maxPage bounds a page of more than one line: lines with what is added
	// on request may be longer than those that a broker counts.
	maxPage = 8 * pageBytes
	// maxEmpty bounds how many pages in a row have no line: a broker that
	// found none in 64 MiB ends the page, so that is 4 TiB of history.
	maxEmpty = 1 << 16
)

// check tells what is wrong with a page that answers a request of a type.
func (h *history) check(p *page, typ string) error {
	head := p.head
	lines := bytes.Count(p.body, []byte("\n"))
	if len(p.body) > 0 && p.body[len(p.body)-1] != '\n' {
		lines++
	}
	switch {
	case head.Type != typ+"_page":
		return h.nonsense("a %s where a %s_page was asked for", head.Type, typ)
	case head.ID != nil:
		return h.nonsense("an answer to another question")
	case !validEpoch(head.Epoch):
		return h.nonsense("a history named %.80q", head.Epoch)
	case len(head.Next) > maxCursor:
		return h.nonsense("a cursor of %d bytes", len(head.Next))
	case head.Count != uint64(lines):
		return h.nonsense("a page that says it has %d lines, and has %d", head.Count, lines)
	case lines > 1 && len(p.body) > maxPage:
		return h.nonsense("a page of %d bytes where %d were asked for", len(p.body), pageBytes)
	}
	return nil
}

// validEpoch tells whether a name of a history may be shown, and kept.
func validEpoch(epoch string) bool {
	return len(epoch) <= maxEpoch && !strings.ContainsFunc(epoch, func(r rune) bool { return r <= ' ' || r > '~' })
}

// moving sees whether the pages of an answer get on. A cursor says nothing to
// a client, but in one answer none comes twice.
type moving struct {
	pages, look uint64 // read so far; when to remember another cursor
	before      string // a cursor that was remembered
	empty       int    // pages without a line, in a row
}

// next takes note of a page, which is the answer to a cursor.
func (m *moving) next(h *history, asked string, p *page) error {
	m.empty++
	if p.head.Count > 0 {
		m.empty = 0
	}
	next := p.head.Next
	if next == "" {
		return nil
	}
	switch {
	case next == asked, next == m.before:
		return h.nonsense("pages that go round in a circle: a cursor comes again")
	case m.empty > maxEmpty:
		return h.nonsense("%d pages in a row with nothing in them", m.empty)
	}
	// A circle of any length is found once it is shorter than what lies
	// between two of the cursors that are remembered.
	if m.pages++; m.pages >= m.look {
		m.look, m.before = max(1, 2*m.look), next
	}
	return nil
}

// rising sees whether the updates of an answer are in order, and of the Things
// that were asked for.
type rising struct {
	h     *history
	name  thing.Name
	alone bool
	last  uint64 // seq
}

// next takes note of an update.
func (r *rising) next(name thing.Name, seq uint64) error {
	switch {
	case seq <= r.last:
		return r.h.nonsense("update %d behind %d, in an answer in the order of seq", seq, r.last)
	case !within(name, r.name, r.alone):
		return r.h.nonsense("an update of %q where %q was asked for", name, r.name)
	}
	r.last = seq
	return nil
}

// nextLine takes note of an update by its line, as wire.UpdateLine gives it.
func (r *rising) nextLine(line []byte) error {
	// Behind it stand numbers only; null is 0.
	const member = `, "seq": `
	var seq uint64
	for _, c := range line[bytes.LastIndex(line, []byte(member))+len(member):] {
		if c < '0' || c > '9' {
			break
		}
		seq = 10*seq + uint64(c-'0')
	}
	if r.name == "" && !r.alone {
		return r.next("", seq)
	}
	name, _, _ := bytes.Cut(line[len(wire.UpdatePrefix+`, "ns": "`):], []byte(`"`))
	return r.next(thing.Name(name), seq)
}

// within tells whether a Thing is one that was asked for.
func within(n, asked thing.Name, alone bool) bool {
	return n == asked || !alone && n.Under(asked)
}

// visible makes what a broker says fit for a terminal and a log: on one line,
// with nothing that steers either, and not longer than it ought to be.
func visible(s string) string {
	const most = 1000
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
