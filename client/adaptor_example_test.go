package client_test

import (
	"context"
	"fmt"
	"time"

	"tbhist/client"
)

// Feed a reading in: about shop.shopbot.spacemon, taken now.
func ExampleNewAdaptor() {
	broker := exampleInput()
	defer broker.close()

	a, err := client.NewAdaptor(client.Options{Broker: broker.url}, client.AdaptorOptions{
		Namespace:        "shop.shopbot",
		DocumentationURL: "https://wiki.example/shopbot",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	data := map[string]any{"busy": 12.0, "light": 31.8}
	if err := a.Send(ctx, data, client.Below("spacemon"), client.TakenAt(time.Unix(1423351104, 0))); err != nil {
		fmt.Println(err)
	}
	if err := a.Close(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-broker.messages)
	// Output:
	// {"type": "thing_update", "ns": "shop.shopbot.spacemon", "documentation_url": "https://wiki.example/shopbot", "data": {"busy":12,"light":31.8}, "ts": 1423351104.0}
}
