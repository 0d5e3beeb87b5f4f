package directory

import (
	"tbhist/thing"
)

// seen is when a source last sent an update of a Thing.
type seen struct {
	source *thing.Source
	at     thing.Micros
}

const sourceMemory = thing.Micros(SourceMemory / 1000)

// see notes a source. Of more than most sources the one silent for longest
// is forgotten.
func (it *item) see(s *thing.Source, at thing.Micros, most int) {
	oldest := 0
	for i := range it.sources {
		have := &it.sources[i]
		if have.source == s || *have.source == *s {
			have.source, have.at = s, at
			return
		}
		if have.at < it.sources[oldest].at {
			oldest = i
		}
	}
	if len(it.sources) < most {
		it.sources = append(it.sources, seen{s, at})
		return
	}
	it.sources[oldest] = seen{s, at}
}

// countSources counts the sources of the last hour.
func (it *item) countSources(now thing.Micros) (n int) {
	for _, s := range it.sources {
		if now-s.at < sourceMemory {
			n++
		}
	}
	return n
}
