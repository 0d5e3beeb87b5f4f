package thing

// Slots finds what somebody holds for a Thing by the slot of its updates: one
// step, where a map of many names waits for memory several times. What it does
// not know is looked up by name, and put in. The zero value is empty. Not for
// several goroutines at once.
type Slots[T any] struct{ at []slot[T] }

// slot has the name beside the value, since a slot is a hint: it is the name
// that counts. Names of one input are one string in memory, so that comparing
// them does not read them.
type slot[T any] struct {
	name Name
	of   *T
}

// Get gives what was put in for the Thing of an update, nil for nothing.
func (s *Slots[T]) Get(u *Update) *T {
	if int(u.Slot) >= len(s.at) {
		return nil
	}
	if at := &s.at[u.Slot]; at.name == u.Name {
		return at.of
	}
	return nil
}

// Put puts in what is held for the Thing of an update, if that has a slot.
func (s *Slots[T]) Put(u *Update, of *T) {
	if u.Slot == 0 || of == nil {
		return
	}
	if n := int(u.Slot) + 1 - len(s.at); n > 0 {
		s.at = append(s.at, make([]slot[T], n)...)
	}
	s.at[u.Slot] = slot[T]{u.Name, of}
}
