package directory

import (
	"slices"

	"tbhist/thing"
)

// seen is when a source last sent an update of a Thing.
type seen struct {
	source *thing.Source
	at     thing.Micros
}

const sourceMemory = thing.Micros(SourceMemory / 1000)

// see notes a source. Of more than most sources the one silent for longest
// is forgotten: the first, since they stand in the order they were seen in,
// whatever became of the clock meanwhile.
func (it *item) see(s *thing.Source, at thing.Micros, most int) {
	last := len(it.sources) - 1
	for i := last; i >= 0; i-- {
		have := &it.sources[i]
		if have.source == s || *have.source == *s {
			copy(it.sources[i:], it.sources[i+1:])
			it.sources[last] = seen{s, at}
			return
		}
	}
	if len(it.sources) >= most {
		it.sources = slices.Delete(it.sources, 0, 1)
	}
	it.sources = append(it.sources, seen{s, at})
}

// countSources counts the sources of the last hour. One that is ahead of now
// by as much was seen while the clock was wrong, and counts once it is seen
// again.
func (it *item) countSources(now thing.Micros) (n int) {
	for _, s := range it.sources {
		if age := now - s.at; age < sourceMemory && age > -sourceMemory {
			n++
		}
	}
	return n
}
