package wire

import (
	"bytes"
	"errors"
	"sync"

	"tbhist/thing"
)

// lineReader reads the lines of updates in the one form that AppendUpdate
// gives them. What it is not sure of it declines, for ParseMessage to judge;
// what it takes, that takes with the same outcome.
type lineReader struct {
	names [1 << nameBits]thing.Name // seen before, by hash
	seen  []seenName                // of the scanner
	text  []byte                    // for what is compared
}

// nameBits bounds the names remembered: a history has few that come often.
const nameBits = 10

var lineReaders = sync.Pool{New: func() any { return new(lineReader) }}

// lineParts are the values of a line; raw ones lie in it.
type lineParts struct {
	ns, data, doc, ts, received []byte
	seq, thingSeq               uint64
	kept                        bool // seq and thing_seq are numbers
}

// split takes a line apart. Data and doc are JSON without white space, ts
// and received numbers.
func (r *lineReader) split(line []byte, p *lineParts) bool {
	s := scanner{src: line, names: r.seen[:0], maxDepth: plainDepth, maxNumber: plainNumber}
	ok := p.read(&s)
	r.seen = s.names
	return ok && s.run == 0 // it is moved by white space
}

func (p *lineParts) read(s *scanner) bool {
	i := s.word(0, UpdatePrefix+`, "ns": "`)
	end := s.text(i, false)
	if end == declined {
		return false
	}
	p.ns = s.src[i : end-1]
	i = s.word(end, `, "data": `)
	if end = s.value(i, 2); end == declined {
		return false
	}
	p.data = s.src[i:end]
	i = s.word(end, `, "ts": `)
	if end = s.numberAt(i); end == declined {
		return false
	}
	p.ts = s.src[i:end]
	i = s.word(end, `, "documentation_url": `)
	if end = s.value(i, 2); end == declined {
		return false
	}
	p.doc = s.src[i:end]
	if i = s.word(end, `, "seq": null, "thing_seq": null`); i == declined {
		p.kept = true
		if p.seq, i = s.count(s.word(end, `, "seq": `)); i == declined {
			return false
		}
		if p.thingSeq, i = s.count(s.word(i, `, "thing_seq": `)); i == declined {
			return false
		}
	}
	i = s.word(i, `, "received": `)
	if end = s.numberAt(i); end == declined {
		return false
	}
	p.received = s.src[i:end]
	return s.word(end, "}") == len(s.src)
}

// numberAt reads a number where something else may stand.
func (s *scanner) numberAt(i int) int {
	if i >= len(s.src) {
		return declined
	}
	return s.number(i)
}

// count reads a whole number of up to 19 digits.
func (s *scanner) count(i int) (n uint64, end int) {
	if i >= len(s.src) {
		return 0, declined
	}
	end = digits(s.src, i)
	if end == i || end > i+19 || s.src[i] == '0' && end > i+1 {
		return 0, declined
	}
	for _, c := range s.src[i:end] {
		n = 10*n + uint64(c-'0')
	}
	return n, end
}

// update reads a line; it keeps nothing of it.
func (r *lineReader) update(line []byte, u *thing.Update) (ok bool) {
	var p lineParts
	if !r.split(line, &p) {
		return false
	}
	if u.Name, ok = r.name(p.ns); !ok {
		return false
	}
	if u.TS, ok = parseSeconds(p.ts); !ok {
		return false
	}
	if u.Received, ok = parseMicros(p.received); !ok {
		return false
	}
	u.Seq, u.ThingSeq = p.seq, p.thingSeq
	n := len(p.data)
	if string(p.doc) == "null" {
		u.Data = bytes.Clone(p.data)
		return true
	}
	both := make([]byte, n+len(p.doc))
	copy(both, p.data)
	copy(both[n:], p.doc)
	u.Data, u.Doc = both[:n:n], both[n:]
	return true
}

// name gives the name that is ns.
func (r *lineReader) name(ns []byte) (thing.Name, bool) {
	at := &r.names[hashName(ns)>>(64-nameBits)]
	if string(*at) != string(ns) {
		if !thing.ValidName(ns) {
			return "", false
		}
		*at = thing.Name(ns)
	}
	return *at, true
}

// exact tells whether a line is what AppendUpdate makes of its update.
func (r *lineReader) exact(line []byte) bool {
	var p lineParts
	if !r.split(line, &p) || p.kept == (p.seq == 0) {
		return false
	}
	if _, ok := r.name(p.ns); !ok {
		return false
	}
	ts, ok := parseSeconds(p.ts)
	if !ok {
		return false
	}
	received, ok := parseMicros(p.received)
	if !ok {
		return false
	}
	r.text = AppendMicros(AppendTS(r.text[:0], ts), received)
	n := len(p.ts)
	return len(r.text) == n+len(p.received) && string(r.text[:n]) == string(p.ts) && string(r.text[n:]) == string(p.received)
}

// ParseUpdate is ParseMessage for a message that has to be an update.
func ParseUpdate(line []byte) (thing.Update, error) {
	var u thing.Update
	r := lineReaders.Get().(*lineReader) // nothing else is in there
	ok := r.update(line, &u)
	lineReaders.Put(r)
	if ok {
		return u, nil
	}
	return parseUpdate(line)
}

var errNoUpdate = errors.New("it is no update")

func parseUpdate(line []byte) (thing.Update, error) {
	m, err := parseMessage(line)
	if err == nil && m.Kind != KindUpdate {
		err = errNoUpdate
	}
	return m.Update, err
}

// UpdateLine gives the line of an update, as AppendUpdate makes it, for a
// message that has to be one: the message itself where it has this form
// already, as all have that a broker of this program sends.
func UpdateLine(message []byte) ([]byte, error) {
	r := lineReaders.Get().(*lineReader) // nothing else is in there
	ok := r.exact(message)
	lineReaders.Put(r)
	if ok {
		return message, nil
	}
	u, err := parseUpdate(message)
	if err != nil {
		return nil, err
	}
	return AppendUpdate(nil, &u), nil
}
