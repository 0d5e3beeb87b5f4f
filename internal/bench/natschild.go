package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/nats-io/nats-server/v2/server"
)

// With natsChildEnv set to a directory, this program is a NATS server that
// keeps its streams there; natsSyncEnv set means that it syncs always.
const (
	natsChildEnv = "TBHIST_BENCH_NATS"
	natsSyncEnv  = "TBHIST_BENCH_NATS_SYNC"
)

// natsChild serves until standard input ends.
func natsChild(dir string) error {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT,
		JetStream: true, StoreDir: dir, JetStreamMaxStore: 64 << 30,
		SyncAlways: os.Getenv(natsSyncEnv) != "",
		NoSigs:     true, NoLog: true,
	})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		return errors.New("the NATS server is not ready within " + patience.String())
	}
	fmt.Println("listening " + s.ClientURL())
	_, err = io.Copy(io.Discard, os.Stdin)
	s.Shutdown()
	s.WaitForShutdown()
	return err
}
