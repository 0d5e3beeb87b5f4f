//go:build proof

package proof

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"tbhist/store"
	"tbhist/store/bolt"
	"tbhist/thing"
)

// cutFolder makes the test program a writer of a history in the folder it
// names: cutWriter, to be run under strace.
const cutFolder = "TBHIST_PROOF_CUT_FOLDER"

// cutHasty makes it give a batch up at the first error.
const cutHasty = "TBHIST_PROOF_CUT_HASTY"

// The load that power is cut from.
const (
	cutUpdates  = 9000
	cutBatch    = 90 // updates in a batch at most
	cutMaintain = 25 // batches between two times of all upkeep
	cutReopen   = 90 // batches between two openings
	cutRing     = 25 // updates that a limited Thing keeps
	cutFile     = "history.db"
)

var cutOptions = bolt.Options{
	MaxDB: bolt.MinMaxDB,
	Rules: []store.Rule{{Prefix: "ring", Limit: store.Limit{Count: cutRing}}},
}

// cutUpdate makes the n-th update: always the same.
func cutUpdate(n int) thing.Update {
	rnd := rand.New(rand.NewPCG(uint64(n), 7))
	u := thing.Update{
		TS: 1e9 + float64(n)/8, Received: thing.Micros(1e15) + thing.Micros(n)*1000,
	}
	switch {
	case n%97 == 0:
		u.Name = thing.Name(fmt.Sprintf("new.n%d", n))
	case n%2 == 0:
		u.Name = thing.Name(fmt.Sprintf("ring.r%d", rnd.IntN(20)))
	default:
		u.Name = thing.Name(fmt.Sprintf("all.a%d", rnd.IntN(9)))
	}
	size := rnd.IntN(120)
	if n%61 == 0 {
		size = 2000 + rnd.IntN(6000) // takes pieces
	}
	filler := make([]byte, size)
	for i := range filler {
		filler[i] = byte(rnd.Uint32())
	}
	u.Data = fmt.Appendf(nil, `{"n":%d,"x":"%s"}`, n, hex.EncodeToString(filler))
	if n%5 == 0 {
		u.Doc = fmt.Appendf(nil, `"http://example.org/%d"`, n/700)
	}
	return u
}

// cutWriter writes the load into a history, and says on standard error what is
// published: "kept SEQ N COUNT" for the updates from the N-th on, which begin
// with SEQ, or "null N COUNT". It is the process that power is cut from.
func cutWriter(folder string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := cutWrite(ctx, filepath.Join(folder, cutFile)); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func cutWrite(ctx context.Context, path string) error {
	log, err := os.Create(path + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	o := cutOptions
	if os.Getenv(cutHasty) != "" {
		o.Grace = time.Nanosecond
	}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	rnd := rand.New(rand.NewPCG(1, 2))
	open := func() (db *bolt.DB, err error) {
		for range 20 { // it may be met by a fault
			if db, err = bolt.Open(path, o); err == nil {
				break
			}
		}
		return db, err
	}
	db, err := open()
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	said := bufio.NewWriter(os.Stderr)
	var batch []thing.Update
	for n, batches := 0, 1; n < cutUpdates; batches++ {
		batch = batch[:0]
		for range 1 + rnd.IntN(cutBatch) {
			batch = append(batch, cutUpdate(n+len(batch)))
		}
		committed, err := db.Append(ctx, batch)
		switch {
		case err == nil:
			fmt.Fprintf(said, "kept %d %d %d\n", committed[0].Seq, n, len(batch))
		case errors.Is(err, store.ErrNotKept):
			fmt.Fprintf(said, "null %d %d\n", n, len(batch))
			// What is committed next is something else, and not before a second.
			<-time.After(time.Second)
		default:
			return err
		}
		if err := said.Flush(); err != nil { // one write
			return err
		}
		n += len(batch)
		if batches%cutMaintain == 0 {
			_ = db.Maintain() // under faults it may fail, as the broker's may
		}
		if batches%cutReopen == 0 {
			_ = db.Close() // the same
			if db, err = open(); err != nil {
				return err
			}
		}
	}
	return nil
}
