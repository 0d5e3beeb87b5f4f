//go:build unix

package bolt

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what the process has used of the processors.
func cpuTime() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
