// Package client speaks to a tbhist broker: it asks for history, follows
// the live feed, reads the directory and sends updates.
//
// A Client is made with New and holds no connection: each call opens what
// it needs and closes it when it ends, so that a Client can be kept for as
// long as the program runs and used from several goroutines.
//
//	c, err := client.New(client.Options{Broker: "tcp://127.0.0.1:7954"})
//	…
//	replay := c.Replay(ctx, client.Query{Name: "spacemon", Tree: true, Since: client.Ago(time.Hour)})
//	for update, err := range replay.Updates() {
//		…
//	}
//
// # Errors
//
// NoBrokerError tells that there is no broker at the address, BrokerError
// what the broker answered instead of doing what it was asked, ErrLost that
// a connection ended that was good before. An error of the context is
// returned as it is.
package client
