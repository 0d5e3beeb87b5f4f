// Package client speaks to a tbhist broker: it keeps a copy of the broker's
// directory, listens to Things, follows their history without a hole, asks
// for history and sends updates.
//
// A Client is made with New, for a broker by its address or by the zone whose
// SRV records name it. It holds no connection and starts nothing: each method
// opens what it needs and closes it when it ends, so that a Client can be
// kept for as long as the program runs and used from several goroutines.
//
//	c, err := client.New(client.Options{Zone: "example.org"})
//
// # What to use
//
// The latest of each Thing, at hand at any time, and a function or a loop
// for what comes in: Client.Directory. Run keeps it up to date, on the
// goroutine that calls it, and reconnects by itself.
//
//	d := c.Directory()
//	go d.Run(ctx)
//	if err := d.Ready(ctx); err != nil {
//		return err
//	}
//	if age, data, ok := d.Thing("spacemon.electronics").Data(); ok {
//		fmt.Printf("%s, %s ago\n", data, age)
//	}
//
// All that happened and then all that happens, nothing missing in between and
// nothing twice: Client.Follow. It reads what it missed from history, and
// tells of what is gone there.
//
//	query := client.Query{Name: "spacemon", Since: client.Ago(time.Hour)}
//	for event, err := range c.Follow(ctx, query) {
//		…
//	}
//
// What happened: Client.Replay; with Client.Things, the directory now or as
// it was at a time. What happens from now on, with a count of what was
// missed: Client.Feed.
//
// Feeding data in: NewAdaptor, which queues and reconnects by itself, or
// Client.Send, which waits until its one update is on the broker's disk.
//
//	a, err := c.NewAdaptor(client.AdaptorOptions{Namespace: "shop.shopbot"})
//	…
//	err = a.Send(ctx, map[string]any{"busy": 12.0}, client.Below("spacemon"))
//	…
//	err = a.Close(ctx)
//
// # Zones
//
// The records _thingsbus._tcp.ZONE are looked up anew for each connection,
// and tried by priority and weight until a broker answers: one that has moved
// is found again, and another takes over from one that is gone.
//
// # Errors
//
// NoBrokerError tells that there is no broker at the address, BrokerError
// what the broker answered instead of doing what it was asked, ErrLost that
// a connection ended that was good before, InvalidError that a name or data
// can be sent to no broker. An error of the context is returned as it is, or
// wrapped together with what was waited for.
//
// What goes on for ever (Directory.Run, Follow, Feed) ends with an error if
// there is no broker at first, so that a wrong address is noticed, unless it
// is told WaitForBroker. Later it tries on.
package client
