// Alarm tells when something below shop gets hot, in the last hour and from
// then on. It goes on over restarts of the broker and misses nothing.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"time"

	"tbhist/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c, err := client.New(client.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	for event, err := range c.Follow(ctx, client.Query{Name: "shop", Since: client.Ago(time.Hour)}) {
		var reading struct{ Temperature float64 }
		switch {
		case ctx.Err() != nil: // interrupted
		case err != nil:
			fmt.Fprintln(os.Stderr, err)
		case event.Kind == client.CaughtUp:
			fmt.Println("that was the last hour; now live")
		case event.Kind == client.Gap:
			fmt.Println(event.Missing, "updates are no longer in history")
		case event.Kind == client.Updated && json.Unmarshal(event.Update.Data, &reading) == nil && reading.Temperature > 181:
			fmt.Println(event.Update.Received.Time().Format(time.TimeOnly), event.Update.Name, reading.Temperature)
		}
	}
}
