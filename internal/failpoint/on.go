//go:build failpoint

// Package failpoint names the instants at which a crash is worth trying: see
// off.go.
package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

var (
	chosen, left = parse(os.Getenv("TBHIST_FAILPOINT"))
	passed       atomic.Int64
)

// parse reads NAME or NAME:N.
func parse(s string) (name string, n int64) {
	name, count, ok := strings.Cut(s, ":")
	if !ok {
		return name, 1
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil || n < 1 {
		panic("TBHIST_FAILPOINT=" + s + " is not NAME or NAME:N")
	}
	return name, n
}

// Hit ends the process at once if name is the chosen point and has been passed
// often enough.
func Hit(name string) {
	if name != chosen || passed.Add(1) != left {
		return
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {} // until the signal arrives
}
