// Package publish is the way out: the live feed, snapshots and heartbeats,
// the history service, and the HTTP handlers.
//
// # The live feed
//
// There is no queue per subscriber. Publish encodes each batch once, into one
// window of the newest chunks that all subscribers share and that is bounded
// in bytes. A subscriber is a cursor over it and a goroutine that writes:
//
//	         Publish
//	            │ encoded once
//	            ▼
//	┌───────────────────────────┐   a cursor that fell out reads on
//	│ window: newest chunks     │◀── from the store, page by page,
//	└───────────────────────────┘    until it is back inside
//	   ▲        ▲           ▲
//	 cursor   cursor      cursor      one per subscriber
//
// A subscriber that has caught up is idle: Publish wakes it when a trie over
// all subscribers' prefixes says that a new message is for it, and does not
// touch it otherwise. One that is behind is never touched by Publish; it
// costs no memory and delays nobody.
//
// # The history service
//
// A connection's requests are answered in their order by one goroutine. A
// second one writes an answer while the first reads the next page, if that
// has been asked for and there is plenty of room (answers): for each
// connection there is one answer on its way and one ahead of it, at most.
// Long pages are made of pieces that all connections use in turn (page).
//
// # Locks
//
// Publisher.mu guards the window, the trie, the list of subscribers and every
// subscriber's cursor. subscriber.subsMu guards its prefixes. mu is taken
// before subsMu where both are held. Publisher.making is held while a
// snapshot is made, and taken before mu. No update is encoded and nothing is
// written to a connection under mu. answers.mu, of the history service,
// stands alone.
package publish
