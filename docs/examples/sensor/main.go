// Sensor feeds a reading of shop.oven every second, until interrupted.
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"tbhist/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	oven, err := client.NewAdaptor(client.Options{}, client.AdaptorOptions{Namespace: "shop.oven"})
	for err == nil && ctx.Err() == nil {
		err = oven.Send(ctx, map[string]float64{"temperature": 180 + rand.NormFloat64()})
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
