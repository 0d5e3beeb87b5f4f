//go:build proof

package proof

import (
	"encoding/binary"
	"strings"

	"tbhist/internal/zmtp"
)

// What a peer of ZeroMQ says, byte by byte, so that it can be said wrong.

// greeting is G of docs/PROTOCOL.md, What a listener must withstand, with a
// minor version.
func greeting(minor byte) []byte {
	g := make([]byte, 64)
	g[0], g[9], g[10], g[11] = 0xff, 0x7f, 3, minor
	copy(g[12:], "NULL")
	return g
}

// The flags of a frame.
const (
	flagMore    = 1
	flagLong    = 2
	flagCommand = 4
)

// announced is the header of a frame of any size.
func announced(flags byte, size uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{flags | flagLong}, size)
}

func command(name string, data ...string) []byte {
	body := string([]byte{byte(len(name))}) + name + strings.Join(data, "")
	if len(body) < 256 {
		return append([]byte{flagCommand, byte(len(body))}, body...)
	}
	return append(announced(flagCommand, uint64(len(body))), body...)
}

func property(name, value string) string {
	size := binary.BigEndian.AppendUint32(nil, uint32(len(value)))
	return string([]byte{byte(len(name))}) + name + string(size) + value
}

func readyAs(socketType string) []byte {
	return command("READY", property("Socket-Type", socketType), property("Identity", ""))
}

// peerType is a socket type that a port of the broker talks with.
var peerType = map[int]string{feedPort: "SUB", inputPort: "PUB", historyPort: "DEALER"}

// single frames messages of one part each.
func single(bodies ...string) (framed []byte) {
	for _, b := range bodies {
		framed = zmtp.AppendFrame(framed, []byte(b), false)
	}
	return framed
}

// multi frames one message.
func multi(parts ...string) (framed []byte) {
	for i, p := range parts {
		framed = zmtp.AppendFrame(framed, []byte(p), i < len(parts)-1)
	}
	return framed
}
