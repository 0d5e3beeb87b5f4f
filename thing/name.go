package thing

// Name is the namespace of a Thing: "" is the root, else parts joined by
// ".". Every Name in the program has passed Valid; take one from outside
// only through ParseName.
type Name string

// Bounds of a namespace (docs/PROTOCOL.md, Input).
const (
	MaxNameBytes = 1024 // of the whole namespace
	MaxPartBytes = 64   // of one part
)

// ParseName takes a namespace from outside. The error is a *Refusal with
// ReasonNS that says what a namespace may look like.
func ParseName(s string) (Name, error) {
	if !ValidName(s) {
		return "", &Refusal{Reason: ReasonNS, Taken: takenNS}
	}
	return Name(s), nil
}

// ValidName tells whether s is a namespace: "" or parts of
// [a-z][a-z0-9_-]{0,63} joined by ".", MaxNameBytes in all at most.
func ValidName[T ~string | ~[]byte](s T) bool {
	if len(s) == 0 {
		return true
	}
	if len(s) > MaxNameBytes {
		return false
	}
	part := 0 // bytes of the current part so far
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z':
			part++
		case c >= '0' && c <= '9', c == '_', c == '-':
			if part == 0 {
				return false
			}
			part++
		case c == '.':
			if part == 0 {
				return false
			}
			part = 0
		default:
			return false
		}
		if part > MaxPartBytes {
			return false
		}
	}
	return part > 0
}

// Under tells whether n is parent itself or lies below it. Everything
// lies under the root.
func (n Name) Under(parent Name) bool {
	switch {
	case parent == "":
		return true
	case len(n) < len(parent) || n[:len(parent)] != parent:
		return false
	}
	return len(n) == len(parent) || n[len(parent)] == '.'
}

// Parent gives the Thing above n; ok is false for the root.
func (n Name) Parent() (parent Name, ok bool) {
	for i := len(n) - 1; i >= 0; i-- {
		if n[i] == '.' {
			return n[:i], true
		}
	}
	return "", n != ""
}
