package client_test

import (
	"context"
	"fmt"
	"time"

	"tbhist/client"
)

// What happened in the shop in the last hour, and then what happens.
func ExampleClient_Follow() {
	broker := exampleHistory("shop.door", `"open"`, `"closed"`)
	defer broker.close()

	c, err := client.New(client.Options{Broker: broker.url})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for event, err := range c.Follow(ctx, client.Query{Name: "shop", Since: client.Ago(time.Hour)}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		switch event.Kind {
		case client.Updated:
			fmt.Printf("%s is %s\n", event.Update.Name, event.Update.Data)
		case client.Gap:
			fmt.Println(event.Missing, "updates are no longer in history")
		case client.CaughtUp:
			fmt.Println("that was history")
		}
		if string(event.Update.Data) == `"closed"` {
			return // or go on for ever
		}
	}
	// Output:
	// shop.door is "open"
	// that was history
	// shop.door is "closed"
}
