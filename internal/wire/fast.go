package wire

import "tbhist/thing"

// fast decodes a frame as strict does, if it is an update object of the
// plain sort (see scanner) whose members occur once each. It refuses
// nothing: where ok is false strict has to look at the frame, arena has what
// it had, and out is not to be used. Nearly all that adaptors send is plain.
func (d *Decoder) fast(arena, frame []byte, out *Draft) (_ []byte, ok bool) {
	s := scanner{
		src: frame, dst: arena, names: d.names,
		maxDepth:  min(d.limits.MaxDepth, plainDepth),
		maxNumber: min(d.limits.MaxNumber, plainNumber),
	}
	ok = d.fastObject(&s, out)
	d.names = s.names[:0]
	if !ok {
		return s.dst[:len(arena)], false
	}
	return s.dst, true
}

// plain tells whether v is one plain JSON value, with nothing behind it. It
// may be one even if not.
func (d *Decoder) plain(v []byte) bool {
	s := scanner{src: v, names: d.names, maxDepth: plainDepth, maxNumber: plainNumber}
	end := s.value(0, 1)
	d.names = s.names[:0]
	return end == len(v)
}

// fastObject reads the document.
func (d *Decoder) fastObject(s *scanner, out *Draft) bool {
	if s.maxDepth < 1 {
		return false
	}
	var found, hashes uint64 // found: a bit for each slot
	i := usualStart(s.src)
	if i > 0 {
		found = 1 << slotType
	} else if i = skip(s.src, 0); !s.at(i, '{') {
		return false
	}
	for {
		if i = skip(s.src, i+1); !s.at(i, '"') {
			return false
		}
		lo := i + 1
		member, n := slotAt(s.src[lo:])
		i = lo + n
		if member == slotDropped {
			if i = s.text(lo, false); i == declined || !s.once(0, lo, i-1, &hashes) {
				return false
			}
		} else if found&(1<<member) != 0 {
			return false
		}
		found |= 1 << member
		if i = skip(s.src, i); !s.at(i, ':') {
			return false
		}
		i = skip(s.src, d.fastMember(s, skip(s.src, i+1), member, out))
		if !s.at(i, ',') {
			break
		}
	}
	const needed = 1<<slotType | 1<<slotNS | 1<<slotData
	return s.at(i, '}') && skip(s.src, i+1) == len(s.src) && found&needed == needed
}

// usualStart gives the index of the comma behind the type where a frame
// begins as adaptors have it begin, else 0.
func usualStart(frame []byte) int {
	const spaced, dense = `{"type": "` + updateType + `",`, `{"type":"` + updateType + `",`
	switch {
	case begins(frame, spaced):
		return len(spaced) - 1
	case begins(frame, dense):
		return len(dense) - 1
	}
	return 0
}

// ns reads a string that is a valid thing.Name.
func (s *scanner) ns(i int) int {
	if !s.at(i, '"') {
		return declined
	}
	i++
	if end := shortName(s.src, i); s.at(end, '"') {
		return end + 1
	}
	if end := s.text(i, false); end != declined && thing.ValidName(s.src[i:end-1]) {
		return end
	}
	return declined
}

// shortName passes over a name of so few bytes that none of its parts is too
// long; declined is for others that may be valid, too.
func shortName(src []byte, i int) int {
	may := classLetter // what may come next
	for _, c := range src[i:min(len(src), i+thing.MaxPartBytes)] {
		class := nameClass[c]
		if class&may == 0 {
			break
		}
		may = classLetter
		if class != classDot {
			may = classLetter | classOther | classDot
		}
		i++
	}
	if may == classLetter { // behind a dot, or nothing
		return declined
	}
	return i
}

// Classes of the characters of a thing.Name.
const (
	classLetter = uint8(1 << iota)
	classOther
	classDot
)

var nameClass = func() (class [256]uint8) {
	for c := range class {
		switch name := []byte{'a', byte(c), 'a'}; {
		case thing.ValidName(name[1:2]):
			class[c] = classLetter
		case thing.ValidName(name[:2]):
			class[c] = classOther
		case thing.ValidName(name):
			class[c] = classDot
		}
	}
	return class
}()

// slotAt tells the member of the document by the text of its name, which b
// begins with, without escapes; n is the length of that with its end quote.
func slotAt(b []byte) (_ slot, n int) {
	switch {
	case begins(b, `ts"`):
		return slotTS, len(`ts"`)
	case begins(b, `ns"`):
		return slotNS, len(`ns"`)
	case begins(b, `type"`):
		return slotType, len(`type"`)
	case begins(b, `data"`):
		return slotData, len(`data"`)
	case begins(b, `documentation_url"`):
		return slotDoc, len(`documentation_url"`)
	}
	return slotDropped, 0
}

func begins(b []byte, s string) bool { return len(b) >= len(s) && string(b[:len(s)]) == s }

// fastMember reads the value of a member of the document.
func (d *Decoder) fastMember(s *scanner, i int, member slot, out *Draft) (end int) {
	switch member {
	case slotType:
		return s.word(i, `"`+updateType+`"`)
	case slotNS:
		if end = s.ns(i); end == declined {
			return declined
		}
		lo := len(s.dst)
		s.run = i + 1
		s.copyRun(end - 1)
		out.NS = s.dst[lo:len(s.dst):len(s.dst)]
	case slotData:
		end, out.Data = s.kept(i, 2)
	case slotTS:
		if end = s.value(i, 2); end == declined || d.ts(s.src[i:end], out) != accepted {
			return declined
		}
	case slotDoc:
		lo := len(s.dst)
		if end, out.Doc = s.kept(i, 2); string(out.Doc) == "null" {
			s.dst, out.Doc = s.dst[:lo], nil
		}
	default:
		end = s.value(i, 2)
	}
	return end
}
