package client_test

import (
	"context"
	"fmt"
	"time"

	"tbhist/client"
)

// What the electronics lab is like, and how old that is.
func ExampleClient_Directory() {
	broker := exampleFeed()
	defer broker.close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	c, err := client.New(client.Options{Broker: broker.url}) // or Zone: "example.org"
	if err != nil {
		fmt.Println(err)
		return
	}
	d := c.Directory()
	go d.Run(ctx) //nolint:errcheck // Ready tells it
	if err := d.Ready(ctx); err != nil {
		fmt.Println(err)
		return
	}
	if age, data, ok := d.Thing("spacemon.electronics").Data(); ok {
		fmt.Printf("%s, %s ago\n", data, age.Round(time.Hour))
	}
	if _, _, ok := d.Thing("spacemon.attic").Data(); !ok {
		fmt.Println("none yet")
	}
	// Output:
	// {"luminance":106.09}, 2h0m0s ago
	// none yet
}

// A function for all below a Thing. It is called by Run.
func ExampleThing_Subscribe() {
	broker := exampleFeed()
	defer broker.close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	c, err := client.New(client.Options{Broker: broker.url})
	if err != nil {
		fmt.Println(err)
		return
	}
	d := c.Directory()
	_, err = d.Thing("shop").Subscribe(func(e client.ThingEvent) {
		fmt.Printf("%s is %s\n", e.Thing.Name(), e.Update.Data)
		cancel() // or go on for ever
	}, client.WithTree())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(d.Run(ctx))
	// Output:
	// shop.door is "closed"
	// context canceled
}

// A loop over what comes in, the snapshot of what there is first.
func ExampleThing_Events() {
	broker := exampleFeed()
	defer broker.close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	c, err := client.New(client.Options{Broker: broker.url})
	if err != nil {
		fmt.Println(err)
		return
	}
	d := c.DirectoryOf("shop") // nothing else crosses the network
	events := d.Root().Events(ctx, client.WithTree(), client.WithSnapshots())
	go d.Run(ctx) //nolint:errcheck // the loop tells it
	for e, err := range events {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s %s snapshot: %v\n", e.Thing.Name(), e.Update.Data, e.Snapshot)
		if !e.Snapshot {
			break // or go on for ever
		}
	}
	// Output:
	// shop.door "open" snapshot: true
	// shop.door "closed" snapshot: false
}

// Data goes into a type of one's own.
func ExampleThing_Decode() {
	broker := exampleFeed()
	defer broker.close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	c, err := client.New(client.Options{Broker: broker.url})
	if err != nil {
		fmt.Println(err)
		return
	}
	d := c.Directory()
	go d.Run(ctx) //nolint:errcheck // Ready tells it
	if err := d.Ready(ctx); err != nil {
		fmt.Println(err)
		return
	}
	var light struct{ Luminance float64 }
	if _, err := d.Thing("spacemon.electronics").Decode(&light); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(light.Luminance > 100)
	// Output:
	// true
}
