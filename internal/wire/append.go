package wire

import (
	"slices"
	"strconv"
	"unicode/utf8"

	"tbhist/thing"
)

// Beginnings of the messages of the live feed. They are part of the
// interface: subscriptions match them byte for byte.
const (
	UpdatePrefix    = `{"type": "thing_update"`
	SnapshotPrefix  = `{"type": "thing_snapshot"`
	HeartbeatPrefix = `{"type": "thing_heartbeat"`
)

// Prefix gives the subscriptions that match the updates of a Thing, and if
// tree, of all Things below it, and nothing else.
func Prefix(n thing.Name, tree bool) [][]byte {
	if n == "" && tree {
		return [][]byte{[]byte(UpdatePrefix)}
	}
	begin := UpdatePrefix + `, "ns": "` + string(n)
	prefixes := [][]byte{[]byte(begin + `"`)}
	if tree {
		prefixes = append(prefixes, []byte(begin+"."))
	}
	return prefixes
}

// AppendUpdate appends the line of an update as docs/PROTOCOL.md (Live
// feed) has it, without a newline. One that was not kept shows null for
// both numbers.
func AppendUpdate(dst []byte, u *thing.Update) []byte {
	dst = slices.Grow(dst, UpdateRoom(u))
	dst = append(dst, UpdatePrefix+`, "ns": "`...)
	dst = append(dst, u.Name...)
	dst = append(dst, `", "data": `...)
	dst = append(dst, u.Data...)
	dst = append(dst, `, "ts": `...)
	dst = AppendTS(dst, u.TS)
	dst = append(dst, `, "documentation_url": `...)
	dst = appendRaw(dst, u.Doc)
	dst = appendNumbers(dst, u)
	return append(dst, '}')
}

// UpdateRoom bounds the size of an update's line.
func UpdateRoom(u *thing.Update) int { return len(u.Name) + u.Size() + restOfUpdate }

// restOfUpdate is the longest that a line can be without name, data and
// URL: a ts has at most 24 characters, a seq 20, an instant 22.
const restOfUpdate = len(UpdatePrefix+`, "ns": "", "data": , "ts": , "documentation_url": null, "seq": , "thing_seq": , "received": }`) +
	24 + 2*20 + 22

// appendNumbers appends the members seq, thing_seq and received.
func appendNumbers(dst []byte, u *thing.Update) []byte {
	if u.Kept() {
		dst = append(dst, `, "seq": `...)
		dst = appendUint(dst, u.Seq)
		dst = append(dst, `, "thing_seq": `...)
		dst = appendUint(dst, u.ThingSeq)
	} else {
		dst = append(dst, `, "seq": null, "thing_seq": null`...)
	}
	dst = append(dst, `, "received": `...)
	return AppendMicros(dst, u.Received)
}

// appendRaw appends a JSON value, null for nil.
func appendRaw(dst, v []byte) []byte {
	if v == nil {
		return append(dst, "null"...)
	}
	return append(dst, v...)
}

// Heartbeat tells a subscriber where it stands.
type Heartbeat struct {
	// Epoch is the name of the history, Seq its head.
	Epoch string
	Seq   uint64
	// TS is the broker's clock.
	TS thing.Micros
	// Degraded: the disk refuses; what comes now is not kept.
	Degraded bool
	// SkippedFrom to SkippedTo is the range of seq that this subscriber was
	// moved over, Skipped the matching updates in it. All 0 when nothing
	// was skipped.
	SkippedFrom, SkippedTo, Skipped uint64
}

// AppendHeartbeat appends a heartbeat.
func AppendHeartbeat(dst []byte, h Heartbeat) []byte {
	dst = append(dst, HeartbeatPrefix+`, "epoch": `...)
	dst = appendString(dst, h.Epoch)
	dst = append(dst, `, "seq": `...)
	dst = strconv.AppendUint(dst, h.Seq, 10)
	dst = append(dst, `, "ts": `...)
	dst = AppendMicros(dst, h.TS)
	if h.Degraded {
		dst = append(dst, `, "degraded": true`...)
	}
	if h.Skipped != 0 || h.SkippedFrom != 0 {
		dst = append(dst, `, "skipped_from": `...)
		dst = strconv.AppendUint(dst, h.SkippedFrom, 10)
		dst = append(dst, `, "skipped_to": `...)
		dst = strconv.AppendUint(dst, h.SkippedTo, 10)
		dst = append(dst, `, "skipped": `...)
		dst = strconv.AppendUint(dst, h.Skipped, 10)
	}
	return append(dst, '}')
}

// Entry is one Thing of a directory.
type Entry struct {
	// Update is the latest. Its Doc is not shown.
	Update thing.Update
	// Doc is the documentation URL in force, nil for none.
	Doc []byte
	// Unknown: at a past instant it had data that history no longer holds.
	// Only Update.Name counts then.
	Unknown bool
	// Wide is what a wide listing adds, nil in others.
	Wide *Wide
}

// Wide is what a wide directory listing adds to an entry.
type Wide struct {
	// Source is the address of the last update, Transport its way in; ""
	// when nothing came since the broker was started.
	Source, Transport string
	// Sources counts the sources of the last hour, 8 at most.
	Sources int
	// Kept counts the updates in history; Oldest is when the oldest of them
	// was received, nil when there is none.
	Kept   uint64
	Oldest *thing.Micros
}

// AppendEntry appends the object of one entry: a line of a directory page,
// and what stands behind the name in a snapshot.
func AppendEntry(dst []byte, e *Entry) []byte {
	if e.Unknown {
		dst = append(dst, `{"ns": "`...)
		dst = append(dst, e.Update.Name...)
		return append(dst, `", "unknown": true}`...)
	}
	dst = append(dst, `{"data": `...)
	dst = append(dst, e.Update.Data...)
	dst = append(dst, `, "ts": `...)
	dst = AppendTS(dst, e.Update.TS)
	dst = append(dst, `, "ns": "`...)
	dst = append(dst, e.Update.Name...)
	dst = append(dst, `", "documentation_url": `...)
	dst = appendRaw(dst, e.Doc)
	dst = appendNumbers(dst, &e.Update)
	if e.Wide != nil {
		dst = e.Wide.append(dst)
	}
	return append(dst, '}')
}

// EntryRoom is about the size of an entry's line, seldom less.
func EntryRoom(e *Entry) int {
	n := len(e.Update.Name) + len(e.Update.Data) + len(e.Doc) + restOfUpdate
	if e.Wide != nil {
		n += len(e.Wide.Source) + restOfWide
	}
	return n
}

const restOfWide = len(`, "source": {"address": "", "transport": ""}, "sources": , "kept": , "oldest": `) + 3 + 2*20 + 22

func (w *Wide) append(dst []byte) []byte {
	dst = append(dst, `, "source": `...)
	if w.Source == "" {
		dst = append(dst, "null"...)
	} else {
		dst = append(dst, `{"address": `...)
		dst = appendString(dst, w.Source)
		dst = append(dst, `, "transport": `...)
		dst = appendString(dst, w.Transport)
		dst = append(dst, '}')
	}
	dst = append(dst, `, "sources": `...)
	dst = strconv.AppendInt(dst, int64(w.Sources), 10)
	dst = append(dst, `, "kept": `...)
	dst = strconv.AppendUint(dst, w.Kept, 10)
	dst = append(dst, `, "oldest": `...)
	if w.Oldest == nil {
		return append(dst, "null"...)
	}
	return AppendMicros(dst, *w.Oldest)
}

// AppendSnapshotHead begins a snapshot message: behind it come entries
// (AppendSnapshotEntry) joined by ", ", then AppendSnapshotTail.
func AppendSnapshotHead(dst []byte, ts thing.Micros) []byte {
	dst = append(dst, SnapshotPrefix+`, "ts": `...)
	dst = AppendMicros(dst, ts)
	return append(dst, `, "data": {`...)
}

// AppendSnapshotEntry appends an entry behind its name.
func AppendSnapshotEntry(dst []byte, e *Entry) []byte {
	dst = append(dst, '"')
	dst = append(dst, e.Update.Name...)
	dst = append(dst, `": `...)
	return AppendEntry(dst, e)
}

// AppendSnapshotTail ends a snapshot message. part (from 1) and parts are
// shown when there are several.
func AppendSnapshotTail(dst []byte, seq uint64, epoch string, part, parts int) []byte {
	dst = append(dst, `}, "seq": `...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = append(dst, `, "epoch": `...)
	dst = appendString(dst, epoch)
	if parts > 1 {
		dst = append(dst, `, "part": `...)
		dst = strconv.AppendInt(dst, int64(part), 10)
		dst = append(dst, `, "parts": `...)
		dst = strconv.AppendInt(dst, int64(parts), 10)
	}
	return append(dst, '}')
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string with as few escapes as JSON
// takes. What is not UTF-8 in s becomes U+FFFD.
func appendString[T ~string | ~[]byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	run := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
			if r == utf8.RuneError && n == 1 {
				dst = append(dst, s[run:i]...)
				dst = append(dst, "\uFFFD"...)
				run = i + 1
			}
			i += n
			continue
		}
		dst = append(dst, s[run:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		run = i
	}
	dst = append(dst, s[run:]...)
	return append(dst, '"')
}
