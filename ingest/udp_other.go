//go:build !linux

package ingest

import (
	"net"
	"net/netip"
)

// udpReader reads one datagram at a time.
type udpReader struct {
	conn   *net.UDPConn
	buffer []byte
	n      int
	from   netip.Addr
}

func newUDPReader(conn *net.UDPConn) (*udpReader, error) {
	return &udpReader{conn: conn, buffer: make([]byte, maxDatagram)}, nil
}

// read waits for a datagram and gives 1.
func (r *udpReader) read() (int, error) {
	n, from, err := r.conn.ReadFromUDPAddrPort(r.buffer)
	if err != nil {
		return 0, err
	}
	r.n, r.from = n, from.Addr().Unmap().WithZone("")
	return 1, nil
}

// dropped is not known here.
func (r *udpReader) dropped() uint32 { return 0 }

// datagram gives the one of the last read, valid until the next.
func (r *udpReader) datagram(int) (payload []byte, from netip.Addr) {
	return r.buffer[:r.n], r.from
}

func setReadBuffer(conn *net.UDPConn, bytes int) (granted int, err error) {
	return bytes, conn.SetReadBuffer(bytes)
}
