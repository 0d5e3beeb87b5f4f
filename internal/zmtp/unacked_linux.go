package zmtp

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unacked gives how many bytes of what was written the peer's kernel has
// not taken yet; -1 when that cannot be told. A socket whose peer reads
// slowly becomes writable only when a third of its buffer is free, so that
// the writer alone would see no progress for long.
func unacked(nc net.Conn) int {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return -1
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1
	}
	n := -1
	if err := raw.Control(func(fd uintptr) {
		if v, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			n = v
		}
	}); err != nil {
		return -1
	}
	return n
}
