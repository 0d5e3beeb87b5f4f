package ingest

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is the kernel's struct mmsghdr; its size is a multiple of its
// alignment on every platform, as in C.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// udpReader reads several datagrams with one system call.
type udpReader struct {
	raw  syscall.RawConn
	try  func(fd uintptr) bool // recv, made once: a closure a read would be garbage
	n    int
	err  error
	seen uint32 // drops of the socket, as last heard
	lost uint32 // … of which dropped has not told yet

	headers  [udpBurst]mmsghdr
	iovs     [udpBurst]unix.Iovec
	names    [udpBurst]unix.RawSockaddrInet6 // large enough for IPv4 too
	controls [udpBurst][4]uint64             // aligned, and large enough for one uint32
	buffers  []byte
}

func newUDPReader(conn *net.UDPConn) (*udpReader, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	r := &udpReader{raw: raw, buffers: make([]byte, udpBurst*maxDatagram)}
	r.try = r.recv
	for i := range r.headers {
		r.iovs[i].Base = &r.buffers[i*maxDatagram]
		r.iovs[i].SetLen(maxDatagram)
		h := &r.headers[i].hdr
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Control = (*byte)(unsafe.Pointer(&r.controls[i]))
	}
	err = raw.Control(func(fd uintptr) {
		// A kernel without it only cannot tell about drops.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	})
	return r, err
}

// read waits for datagrams and gives how many there are; that may be none.
func (r *udpReader) read() (int, error) {
	r.n, r.err = 0, nil
	if err := r.raw.Read(r.try); err != nil {
		return 0, err
	}
	return r.n, r.err
}

// recv is one try; false means that there is nothing yet.
func (r *udpReader) recv(fd uintptr) bool {
	for i := range r.headers {
		h := &r.headers[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(len(r.controls[i]) * 8)
		h.Flags = 0
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.headers)),
			udpBurst, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			r.n = int(n)
			r.heard(overflow(&r.headers[n-1], &r.controls[n-1]))
			return true
		case unix.EINTR, unix.ECONNREFUSED: // the latter is about a datagram sent
		case unix.EAGAIN:
			// The queue is empty. What was dropped behind its last datagram
			// no control message has told.
			r.heard(socketDrops(int(fd)))
			if r.lost > 0 {
				return true // to be counted now, not with the next datagram
			}
			return false
		case unix.ENOMEM, unix.ENOBUFS:
			// It passes: no reason to end the input. Waiting for the poller
			// could be for ever, since it tells of changes only.
			return true
		default:
			r.err = errno
			return true
		}
	}
}

// overflow finds the socket's count of drops in the control message of a
// datagram; the kernel leaves it out while it is 0.
func overflow(h *mmsghdr, control *[4]uint64) (total uint32, ok bool) {
	if int(h.hdr.Controllen) < unix.CmsgLen(4) {
		return 0, false
	}
	c := (*unix.Cmsghdr)(unsafe.Pointer(control))
	if c.Level != unix.SOL_SOCKET || c.Type != unix.SO_RXQ_OVFL {
		return 0, false
	}
	data := unsafe.Slice((*byte)(unsafe.Pointer(control)), len(control)*8)
	return binary.NativeEndian.Uint32(data[unix.CmsgLen(0):]), true
}

// socketDrops asks the kernel (4.12 or later) for the same count.
func socketDrops(fd int) (total uint32, ok bool) {
	var info [unix.SK_MEMINFO_VARS]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || size <= 4*unix.SK_MEMINFO_DROPS {
		return 0, false
	}
	return info[unix.SK_MEMINFO_DROPS], true
}

// heard takes note of a total. A datagram tells what it was when it was
// queued, so older totals come after newer ones; the total wraps around.
func (r *udpReader) heard(total uint32, ok bool) {
	if d := total - r.seen; ok && int32(d) > 0 {
		r.seen = total
		r.lost += d
	}
}

// dropped tells how many datagrams the kernel dropped since the last call.
func (r *udpReader) dropped() uint32 {
	lost := r.lost
	r.lost = 0
	return lost
}

// datagram gives the i-th of the last read, valid until the next.
func (r *udpReader) datagram(i int) (payload []byte, from netip.Addr) {
	h := &r.headers[i]
	lo := i * maxDatagram
	payload = r.buffers[lo : lo+int(h.len)]
	name := &r.names[i]
	switch name.Family {
	case unix.AF_INET:
		from = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	case unix.AF_INET6:
		from = netip.AddrFrom16(name.Addr).Unmap()
	}
	return payload, from
}

// setReadBuffer tries past rmem_max first, which needs CAP_NET_ADMIN.
func setReadBuffer(conn *net.UDPConn, bytes int) (granted int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var opt error
	err = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes) != nil {
			if opt = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bytes); opt != nil {
				return
			}
		}
		granted, opt = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		granted /= 2 // the kernel doubles it, for its own bookkeeping
	})
	return granted, errors.Join(err, opt)
}
