package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"tbhist/thing"
)

// Kind tells messages of the live feed apart.
type Kind uint8

// The kinds of messages.
const (
	KindUnknown Kind = iota // of a type that is not known, or no object
	KindUpdate
	KindSnapshot
	KindHeartbeat
)

// Message is one message of the live feed, or one line of a replay.
type Message struct {
	Kind      Kind
	Update    thing.Update // of KindUpdate; Seq and ThingSeq are 0 if it was not kept
	Heartbeat Heartbeat    // of KindHeartbeat
	Snapshot  Snapshot     // of KindSnapshot
	// Skipped counts the entries of a snapshot that could not be taken.
	Skipped int
}

// Snapshot is one message of a snapshot.
type Snapshot struct {
	TS thing.Micros
	// Seq is the head of the history that the snapshot stands for, Epoch
	// its name; 0 and "" from a broker that has none.
	Seq   uint64
	Epoch string
	// Part (from 1) of Parts messages with one TS, Seq and Epoch.
	Part, Parts int
	Entries     []Entry
}

// ParseMessage reads a message as a client does (docs/PROTOCOL.md, Client
// and adaptor): an integer ts is taken, an entry of a snapshot that cannot
// be taken is skipped and counted, and what is not normalised JSON becomes
// so. Messages of an original broker are taken, too. The message keeps
// nothing of line.
//
// The error says why nothing could be taken; a type that is not known is no
// error.
func ParseMessage(line []byte) (Message, error) {
	var m Message
	r := lineReaders.Get().(*lineReader) // nothing else is in there
	ok := r.update(line, &m.Update)
	lineReaders.Put(r)
	if ok {
		m.Kind = KindUpdate
		return m, nil
	}
	return parseMessage(line)
}

// parseMessage is ParseMessage for lines of any form.
func parseMessage(line []byte) (Message, error) {
	r := readers.Get().(*reader) // nothing else is in there
	defer readers.Put(r)
	var v values
	if err := r.object(line, &v); err != nil {
		if errors.Is(err, errNotObject) {
			return Message{}, nil
		}
		return Message{}, err
	}
	var m Message
	var err error
	switch {
	case v.is(fType, updateType):
		m.Kind = KindUpdate
		err = r.update(&v, &m.Update)
		if err == nil && !v.null(fDoc) {
			m.Update.Doc = notNull(r.keep(&v, fDoc))
		}
	case v.is(fType, "thing_snapshot"):
		m.Kind = KindSnapshot
		err = r.snapshot(&v, &m)
	case v.is(fType, "thing_heartbeat"):
		m.Kind = KindHeartbeat
		m.Heartbeat, err = heartbeat(&v)
	}
	if err != nil {
		return Message{Kind: m.Kind}, err
	}
	return m, nil
}

// ParseEntry reads one line of a directory page. The entry keeps nothing of
// line.
func ParseEntry(line []byte) (Entry, error) {
	r := readers.Get().(*reader) // nothing else is in there
	defer readers.Put(r)
	var e Entry
	err := r.entry(line, "", &e)
	return e, err
}

// notNull gives nil for null, which a number beyond float64 becomes.
func notNull(v []byte) []byte {
	if string(v) == "null" {
		return nil
	}
	return v
}

// update reads the members that updates and entries share.
func (r *reader) update(v *values, u *thing.Update) (err error) {
	ns, ok := v.text(fNS)
	if !ok {
		return refusals[thing.ReasonNS]
	}
	if u.Name, err = thing.ParseName(ns); err != nil {
		return err
	}
	if v.raw[fData] == nil {
		return refusals[thing.ReasonDataMissing]
	}
	if u.TS, err = v.seconds(fTS); err != nil {
		return err
	}
	if u.Seq, err = v.uint(fSeq); err != nil {
		return err
	}
	if u.ThingSeq, err = v.uint(fThingSeq); err != nil {
		return err
	}
	if u.Received, err = v.micros(fReceived); err != nil {
		return err
	}
	u.Data = r.keep(v, fData)
	return nil
}

// entry reads the object of an entry; key is the name it stands under.
func (r *reader) entry(doc []byte, key string, e *Entry) error {
	var v values
	if err := r.object(doc, &v); err != nil {
		return err
	}
	if v.raw[fNS] == nil && key != "" {
		v.raw[fNS] = appendString(nil, key)
	}
	if v.truth(fUnknown) {
		ns, ok := v.text(fNS)
		if !ok {
			return refusals[thing.ReasonNS]
		}
		name, err := thing.ParseName(ns)
		*e = Entry{Update: thing.Update{Name: name}, Unknown: true}
		return err
	}
	if err := r.update(&v, &e.Update); err != nil {
		return err
	}
	if !v.null(fDoc) {
		e.Doc = notNull(r.keep(&v, fDoc))
	}
	if v.raw[fSources] == nil && v.raw[fKept] == nil {
		return nil
	}
	e.Wide = new(Wide)
	return r.wide(&v, e.Wide)
}

func (r *reader) wide(v *values, w *Wide) error {
	sources, err := v.uint(fSources)
	if err != nil {
		return err
	}
	w.Sources = int(min(sources, 1<<30))
	if w.Kept, err = v.uint(fKept); err != nil {
		return err
	}
	if !v.null(fOldest) {
		oldest, err := v.micros(fOldest)
		if err != nil {
			return err
		}
		w.Oldest = &oldest
	}
	if v.null(fSource) {
		return nil
	}
	var s values
	if err := r.object(v.raw[fSource], &s); err != nil {
		return fmt.Errorf(`"source": %w`, err)
	}
	w.Source, _ = s.text(fAddress)
	w.Transport, _ = s.text(fTransport)
	return nil
}

func heartbeat(v *values) (h Heartbeat, err error) {
	h.Epoch, _ = v.text(fEpoch)
	h.Degraded = v.truth(fDegraded)
	if h.TS, err = v.micros(fTS); err != nil {
		return h, err
	}
	for f, n := range map[field]*uint64{fSeq: &h.Seq, fSkippedFrom: &h.SkippedFrom, fSkippedTo: &h.SkippedTo, fSkipped: &h.Skipped} {
		if *n, err = v.uint(f); err != nil {
			return h, err
		}
	}
	return h, nil
}

// snapshot reads a snapshot. Its own ts may be missing, since nothing is
// done with it.
func (r *reader) snapshot(v *values, m *Message) (err error) {
	s := &m.Snapshot
	s.TS, _ = v.micros(fTS)
	s.Epoch, _ = v.text(fEpoch)
	if s.Seq, err = v.uint(fSeq); err != nil {
		return err
	}
	part, err := v.uint(fPart)
	if err != nil {
		return err
	}
	parts, err := v.uint(fParts)
	if err != nil {
		return err
	}
	s.Part, s.Parts = int(min(max(part, 1), 1<<30)), int(min(max(parts, 1), 1<<30))
	data := v.raw[fData]
	if len(data) == 0 || data[0] != '{' {
		m.Skipped++
		return nil
	}
	entries, err := r.entriesOf(data)
	if err != nil {
		return err
	}
	s.Entries = make([]Entry, 0, len(entries))
	for _, raw := range entries {
		var e Entry
		if err := r.entry(raw.value.of(data), string(appendUnquoted(nil, raw.name.of(data))), &e); err != nil || e.Unknown {
			m.Skipped++
			continue
		}
		s.Entries = append(s.Entries, e)
	}
	return nil
}

// named is a member of an object.
type named struct{ name, value span }

// entriesOf finds the members of an object that was accepted before.
func (r *reader) entriesOf(doc []byte) ([]named, error) {
	d := r.d
	d.src = *bytes.NewBuffer(doc)
	d.dec.Reset(&d.src, jsontext.AllowDuplicateNames(true))
	if _, err := d.dec.ReadToken(); err != nil {
		return nil, err
	}
	var all []named
	for d.dec.PeekKind() != jsontext.KindEndObject {
		name, err := d.value(doc)
		if err != nil {
			return nil, err
		}
		value, err := d.value(doc)
		if err != nil {
			return nil, err
		}
		all = append(all, named{name, value})
	}
	return all, nil
}
