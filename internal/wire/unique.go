package wire

import "bytes"

// uniqueNames rewrites the compact JSON value buf[lo:] so that no object in
// it has two members of the same name: the last value wins, at the place of
// the first, as Python does. Only messages that have such names (or other
// things that jsontext refuses) come here.
func uniqueNames(buf []byte, lo int) []byte {
	if bytes.IndexByte(buf[lo:], '{') < 0 {
		return buf
	}
	v := append([]byte(nil), buf[lo:]...)
	u := uniquer{src: v, dst: buf[:lo]}
	u.value()
	return u.dst
}

type uniquer struct {
	src  []byte
	at   int // how far src was read
	dst  []byte
	tmp  []byte
	open []member // of all objects being read, outermost first
}

// member is one written member: `"name":value` without separators.
type member struct {
	name   string
	lo, hi int // in dst
}

// value copies the value at src[at].
func (u *uniquer) value() {
	switch u.src[u.at] {
	case '{':
		u.object()
	case '[':
		u.copy(1)
		for u.src[u.at] != ']' {
			if u.src[u.at] == ',' {
				u.copy(1)
			}
			u.value()
		}
		u.copy(1)
	case '"':
		u.copy(stringEnd(u.src, u.at) - u.at)
	default:
		n := bytes.IndexAny(u.src[u.at:], ",]}")
		if n < 0 {
			n = len(u.src) - u.at
		}
		u.copy(n)
	}
}

func (u *uniquer) copy(n int) {
	u.dst = append(u.dst, u.src[u.at:u.at+n]...)
	u.at += n
}

func (u *uniquer) object() {
	first := len(u.open)
	u.copy(1)
	start := len(u.dst)
	for u.src[u.at] != '}' {
		if u.src[u.at] == ',' {
			u.copy(1)
		}
		lo := len(u.dst)
		end := stringEnd(u.src, u.at)
		name := string(appendUnquoted(nil, u.src[u.at:end]))
		u.copy(end + 1 - u.at) // with the colon
		u.value()
		u.open = append(u.open, member{name, lo, len(u.dst)})
	}
	if own := u.open[first:]; len(own) > 1 {
		u.rewrite(start, own)
	}
	u.open = u.open[:first]
	u.copy(1)
}

// rewrite drops all but the last of members that share a name, if any do.
// The members stand in dst from start on.
func (u *uniquer) rewrite(start int, own []member) {
	last := make(map[string]int, len(own))
	for i, m := range own {
		last[m.name] = i
	}
	if len(last) == len(own) {
		return
	}
	u.tmp = u.tmp[:0]
	for _, m := range own {
		i, ok := last[m.name]
		if !ok {
			continue // written at its first place already
		}
		delete(last, m.name)
		if len(u.tmp) > 0 {
			u.tmp = append(u.tmp, ',')
		}
		u.tmp = append(u.tmp, u.dst[own[i].lo:own[i].hi]...)
	}
	u.dst = append(u.dst[:start], u.tmp...)
}
