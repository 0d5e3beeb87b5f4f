package publish

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"tbhist/internal/wire"
	"tbhist/store"
	"tbhist/thing"
)

// question is what a request asks, with absolute times, and where its answer
// goes on. A cursor carries all of it.
type question struct {
	typ   string // wire.TypeReplay or wire.TypeDirectory
	epoch string
	query store.Query // of a replay
	// Of a directory; of query it has Name and Tree.
	at    *thing.Micros
	after *thing.Name
	wide  bool
}

// question reads what a request asks, from its cursor if it has one.
func (p *Publisher) question(r *wire.Request) (*question, error) {
	epoch := p.o.Store.State().Epoch
	q := &question{typ: r.Type, epoch: epoch}
	if r.Cursor != "" {
		if err := q.parse(r.Cursor); err != nil || q.typ != r.Type {
			return nil, badRequest(`"cursor" is the "next" of an earlier page, unchanged, in a request of the same type`)
		}
	} else {
		now := micros(p.clock.wall())
		q.fill(r, now)
		if r.Epoch != "" {
			q.epoch = r.Epoch
		}
	}
	if q.epoch != epoch {
		return nil, &codeError{code: wire.CodeEpochChanged, err: errEpoch}
	}
	return q, nil
}

var errEpoch = errors.New("the history is another one than that of the epoch or cursor sent: start over without them")

func (q *question) fill(r *wire.Request, now thing.Micros) {
	absolute := func(t *thing.Micros) *thing.Micros {
		if t == nil {
			return nil
		}
		m := wire.Absolute(*t, now)
		return &m
	}
	count := func(n *uint64) uint64 {
		if n == nil {
			return 0
		}
		return *n
	}
	q.query = store.Query{
		Name: r.Name(), Tree: r.WithTree(),
		Since: absolute(r.Since), Until: absolute(r.Until),
		After: count(r.After), Last: count(r.Last), Limit: count(r.Limit),
	}
	if r.By == wire.ByTS {
		q.query.By = store.ByTS
	}
	q.at = absolute(r.At)
	q.wide = r.Wide != nil && *r.Wide
}

// A cursor is base64url of: version 1, flags, epoch, name, the instants that
// flags announce, After, Last, Limit, the name of after if announced, Resume,
// and a CRC-32C over all before it. Numbers are varints, instants signed;
// names and Resume are led by their length.
const cursorVersion = 1

const (
	cursorReplay = 1 << iota
	cursorTree
	cursorByTS
	cursorWide
	cursorSince
	cursorUntil
	cursorAt
	cursorAfter
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// cursor gives the cursor of the question.
func (q *question) cursor() string {
	flags := byte(0)
	for flag, set := range map[byte]bool{
		cursorReplay: q.typ == wire.TypeReplay,
		cursorTree:   q.query.Tree,
		cursorByTS:   q.query.By == store.ByTS,
		cursorWide:   q.wide,
		cursorSince:  q.query.Since != nil,
		cursorUntil:  q.query.Until != nil,
		cursorAt:     q.at != nil,
		cursorAfter:  q.after != nil,
	} {
		if set {
			flags |= flag
		}
	}
	b := []byte{cursorVersion, flags}
	b = appendSized(b, q.epoch)
	b = appendSized(b, q.query.Name)
	for _, t := range []*thing.Micros{q.query.Since, q.query.Until, q.at} {
		if t != nil {
			b = binary.AppendVarint(b, int64(*t))
		}
	}
	b = binary.AppendUvarint(b, q.query.After)
	b = binary.AppendUvarint(b, q.query.Last)
	b = binary.AppendUvarint(b, q.query.Limit)
	if q.after != nil {
		b = appendSized(b, *q.after)
	}
	b = appendSized(b, q.query.Resume)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return base64.RawURLEncoding.EncodeToString(b)
}

func appendSized[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

var errCursor = errors.New("not a cursor")

// parse reads a cursor. q is not to be used after an error.
func (q *question) parse(cursor string) error {
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return errCursor
	}
	end := len(b) - 4
	if end < 2 || b[0] != cursorVersion || binary.BigEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
		return errCursor
	}
	flags := b[1]
	r := cursorReader{b: b[2:end]}
	*q = question{typ: wire.TypeDirectory, epoch: string(r.sized()), wide: flags&cursorWide != 0}
	if flags&cursorReplay != 0 {
		q.typ = wire.TypeReplay
	}
	q.query.Name, q.query.Tree = r.name(), flags&cursorTree != 0
	if flags&cursorByTS != 0 {
		q.query.By = store.ByTS
	}
	for _, t := range []struct {
		flag byte
		to   **thing.Micros
	}{{cursorSince, &q.query.Since}, {cursorUntil, &q.query.Until}, {cursorAt, &q.at}} {
		if flags&t.flag != 0 {
			*t.to = r.instant()
		}
	}
	q.query.After, q.query.Last, q.query.Limit = r.number(), r.number(), r.number()
	if flags&cursorAfter != 0 {
		name := r.name()
		q.after = &name
	}
	if resume := r.sized(); len(resume) > 0 {
		q.query.Resume = resume
	}
	if r.bad || len(r.b) > 0 {
		return errCursor
	}
	return nil
}

// cursorReader reads a cursor's parts; bad once something did not fit.
type cursorReader struct {
	b   []byte
	bad bool
}

func (r *cursorReader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	return v * r.took(n)
}

func (r *cursorReader) instant() *thing.Micros {
	v, n := binary.Varint(r.b)
	r.took(n)
	m := thing.Micros(v)
	return &m
}

// took passes over n bytes read, and gives 1; 0 if there were none.
func (r *cursorReader) took(n int) uint64 {
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return 1
}

func (r *cursorReader) sized() []byte {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}

func (r *cursorReader) name() thing.Name {
	s := r.sized()
	if !thing.ValidName(s) {
		r.bad = true
		return ""
	}
	return thing.Name(s)
}
