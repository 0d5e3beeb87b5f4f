// Package storetest is the conformance suite of store.Store. Every engine
// runs it from a test of its own:
//
//	func TestConformance(t *testing.T) { storetest.Run(t, openForTest) }
//
// Each test drives an engine and a model in memory side by side and compares
// all that the engine answers with what the model holds to be true. The
// model keeps every update ever taken, evicted or not, so it also knows what
// an engine may have forgotten. Random tests print their seed; with
// STORETEST_SEED set to it they do the same again.
package storetest

import (
	"testing"
	"time"

	"tbhist/store"
)

// Options says how a test wants its history opened.
type Options struct {
	// Dir is an empty folder that belongs to this history alone, for the
	// files of an engine that has some. It is removed after the test.
	Dir string
	// Rules are the limits in force; none means no limit.
	Rules []store.Rule
	// Now is the broker's clock. It may be called from any goroutine.
	Now func() time.Time
	// TrustClock tells the engine never to distrust the clock: limits by age
	// act from the start, however Now steps. Without it nothing may be
	// evicted by age in the first minutes after opening.
	TrustClock bool
	// MaxDB, unless 0, bounds what the history takes in bytes (--max-db).
	MaxDB int64
}

// Engine is a Store with what a test needs beside it.
type Engine interface {
	store.Store

	// Reopen closes the engine cleanly and opens it again on the same data,
	// possibly under other rules; Dir is that of the first Options. The
	// engine it was called on is not used again.
	Reopen(t *testing.T, o Options) Engine

	// Maintain does all work that the engine would do in the background, and
	// returns when none is left: sealing, evicting by age and size,
	// reclaiming, checkpoints. It may be called beside Append and reads, from
	// another goroutine than the test's.
	Maintain(t *testing.T)
}

// Open makes a new, empty history. It ends the test when it cannot.
type Open func(t *testing.T, o Options) Engine

// conformance lists the tests, cheap ones first.
var conformance = []struct {
	name string
	run  func(t *testing.T, open Open)
}{
	{"Empty", testEmpty},
	{"Seq", testSeq},
	{"AppendCopies", testAppendCopies},
	{"Content", testContent},
	{"Count", testCount},
	{"Bytes", testBytes},
	{"Age", testAge},
	{"AgeDistrust", testAgeDistrust},
	{"Prefixes", testPrefixes},
	{"ChangedLimits", testChangedLimits},
	{"StickyDoc", testStickyDoc},
	{"LatestStops", testLatestStops},
	{"ReadMembers", testReadMembers},
	{"ReadTimes", testReadTimes},
	{"ReadMatch", testReadMatch},
	{"ReadPages", testReadPages},
	{"ReadLast", testReadLast},
	{"Evicted", testEvicted},
	{"EvictedByTime", testEvictedByTime},
	{"Resume", testResume},
	{"BadResume", testBadResume},
	{"AsOf", testAsOf},
	{"AsOfDoc", testAsOfDoc},
	{"Kept", testKept},
	{"State", testState},
	{"Cancelled", testCancelled},
	{"Closed", testClosed},
	{"CloseEndsReads", testCloseEndsReads},
	{"ReadersBesideAppend", testReadersBesideAppend},
	{"Random", testRandom},
	{"ManyThings", testManyThings},
	{"Large", testLarge},
	{"ReadBudget", testReadBudget},
	{"MaxDB", testMaxDB},
}

// Run holds an engine to everything that store.Store promises.
func Run(t *testing.T, open func(t *testing.T, o Options) Engine) {
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) { c.run(t, open) })
	}
}
