package client

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"tbhist/internal/wire"
)

// datagram makes the msgpack of a message.
func datagram(d *wire.Draft) ([]byte, error) {
	b := []byte{0x85} // a map of five
	b = appendPackText(b, "type")
	b = appendPackText(b, "thing_update")
	b = appendPackText(b, "ns")
	b = appendPackText(b, string(d.NS))
	b = appendPackText(b, "documentation_url")
	b, err := appendPacked(b, orNull(d.Doc))
	if err != nil {
		return nil, err
	}
	b = appendPackText(b, "data")
	if b, err = appendPacked(b, d.Data); err != nil {
		return nil, err
	}
	b = appendPackText(b, "ts")
	return appendPackFloat(b, d.TS), nil
}

// appendPacked converts one valid JSON value. Integers beyond 64 bits have
// no msgpack.
func appendPacked(b, value []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	// Containers are counted when they end: their header is 5 bytes wide.
	type container struct {
		at, n int
		code  byte
	}
	var open []container
	for {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		end := false
		switch t := token.(type) {
		case json.Delim:
			if end = t == '}' || t == ']'; end {
				c := open[len(open)-1]
				open = open[:len(open)-1]
				n := c.n
				if c.code == packMap32 {
					n /= 2
				}
				b[c.at] = c.code
				binary.BigEndian.PutUint32(b[c.at+1:], uint32(n))
				break
			}
			code := byte(packArray32)
			if t == '{' {
				code = packMap32
			}
			if len(open) > 0 {
				open[len(open)-1].n++
			}
			open = append(open, container{at: len(b), code: code})
			b = append(b, make([]byte, 5)...)
			continue
		case nil:
			b = append(b, 0xc0)
		case bool:
			b = append(b, 0xc2)
			if t {
				b[len(b)-1]++
			}
		case string:
			b = appendPackText(b, t)
		case json.Number:
			if b, err = appendPackNumber(b, t.String()); err != nil {
				return nil, err
			}
		}
		if len(open) == 0 {
			return b, nil
		}
		if !end {
			open[len(open)-1].n++
		}
	}
}

// First bytes of msgpack values.
const (
	packArray32 = 0xdd
	packMap32   = 0xdf
	packFloat64 = 0xcb
	packUint64  = 0xcf
	packInt64   = 0xd3
)

func appendPackNumber(b []byte, literal string) ([]byte, error) {
	if !strings.ContainsAny(literal, ".eE") {
		if i, err := strconv.ParseInt(literal, 10, 64); err == nil {
			if i >= -32 && i < 128 && literal != "-0" {
				return append(b, byte(i)), nil
			}
			if i != 0 {
				return binary.BigEndian.AppendUint64(append(b, packInt64), uint64(i)), nil
			}
		}
		if u, err := strconv.ParseUint(literal, 10, 64); err == nil {
			return binary.BigEndian.AppendUint64(append(b, packUint64), u), nil
		} else if errors.Is(err, strconv.ErrRange) || len(literal) > 19 {
			return nil, fmt.Errorf("an integer of more than 64 bits cannot be sent over UDP: %.30s", literal)
		}
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil {
		return nil, err
	}
	return appendPackFloat(b, f), nil
}

func appendPackFloat(b []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(append(b, packFloat64), math.Float64bits(f))
}

func appendPackText(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n < 1<<8:
		b = append(b, 0xd9, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}
