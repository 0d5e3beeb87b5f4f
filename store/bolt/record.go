package bolt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"go.etcd.io/bbolt"

	"tbhist/store"
)

// kind says what a record holds; codec how its bytes are stored.
const (
	kindBatch byte = 1 + iota
	kindHead
	kindChunk
	kindCheckpoint
	kindLimits
	kindAged
)

const (
	codecRaw byte = iota
	codecS2
	codecZstd
)

// codecs compresses and restores. One per database: the zstd coders are
// made for many goroutines and keep their tables between calls.
type codecs struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newCodecs() (*codecs, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(128<<10),
		zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(4),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxRaw))
	if err != nil {
		return nil, err
	}
	return &codecs{enc: enc, dec: dec}, nil
}

func (c *codecs) close() {
	_ = c.enc.Close()
	c.dec.Close()
}

// envelope makes the whole stored form of a record, appended to dst: what
// pieces are cut from. A codec that does not shrink raw gives way to raw.
func (c *codecs) envelope(dst, key []byte, kind, codec byte, raw []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, envelopeBytes)...)
	switch codec {
	case codecS2:
		n := s2.MaxEncodedLen(len(raw))
		dst = slices.Grow(dst, n)
		dst = dst[:len(dst)+len(s2.Encode(dst[len(dst):len(dst)+n], raw))]
	case codecZstd:
		dst = c.enc.EncodeAll(raw, dst)
	}
	if codec == codecRaw || len(dst)-at-envelopeBytes >= len(raw) {
		codec = codecRaw
		dst = append(dst[:at+envelopeBytes], raw...)
	}
	address(dst[at:], key, kind, codec, len(raw))
	return dst
}

// envelopeAgain appends the envelope of a record that is stored already, under
// another key.
func envelopeAgain(dst, key []byte, kind, codec byte, stored []byte, raw int) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, envelopeBytes)...)
	dst = append(dst, stored...)
	address(dst[at:], key, kind, codec, raw)
	return dst
}

// address fills in what stands before the stored bytes of an envelope.
func address(envelope, key []byte, kind, codec byte, raw int) {
	envelope[0], envelope[1], envelope[2], envelope[3] = codec, kind, 0, 0
	binary.BigEndian.PutUint32(envelope[4:], uint32(len(envelope)-envelopeBytes))
	binary.BigEndian.PutUint32(envelope[8:], uint32(raw))
	binary.BigEndian.PutUint32(envelope[12:], recordSum(key, envelope))
}

func recordSum(key, record []byte) uint32 {
	sum := crc32.Checksum(key, castagnoli)
	sum = crc32.Update(sum, castagnoli, record[:12])
	return crc32.Update(sum, castagnoli, record[envelopeBytes:])
}

// putPieces writes an envelope under key. bbolt holds on to the envelope, and
// not to the key, until the transaction ends.
func putPieces(b *bbolt.Bucket, key, envelope []byte) error {
	b.FillPercent = 1 // keys are put in their order
	return eachPiece(key, envelope, b.Put)
}

// eachPiece cuts an envelope into pieces, each with its own key. A key lives
// until put returns.
func eachPiece(key, envelope []byte, put func(key, piece []byte) error) error {
	var room [12 + pieceNoBytes]byte
	k := append(append(room[:0], key...), 0, 0)
	for no := 0; len(envelope) > 0; no++ {
		n := min(len(envelope), pieceBytes)
		binary.BigEndian.PutUint16(k[len(key):], uint16(no))
		if err := put(k, envelope[:n]); err != nil {
			return err
		}
		envelope = envelope[n:]
	}
	return nil
}

// storedBytes is what an envelope of n bytes takes, keys and elements of
// bbolt's pages included.
func storedBytes(n, key int) int64 {
	pieces := (n + pieceBytes - 1) / pieceBytes
	return int64(n + pieces*(key+pieceNoBytes+16))
}

// deleteRecords deletes every key of the bucket with from <= key < to.
func deleteRecords(b *bbolt.Bucket, from, to []byte) error {
	// Collect first: deleting under a cursor and going on skips keys.
	var keys []byte
	var ends []int
	c := b.Cursor()
	for k, _ := c.Seek(from); k != nil && bytes.Compare(k, to) < 0; k, _ = c.Next() {
		keys = append(keys, k...)
		ends = append(ends, len(keys))
	}
	at := 0
	for _, end := range ends {
		if err := b.Delete(keys[at:end]); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// reader reads records of one goroutine; its buffers are used again, so a
// raw record lives until the next call.
type reader struct {
	codecs *codecs
	key    []byte
	joined []byte
	raw    []byte
	// stored is what the raw record was made of, and by what codec. It lives as
	// long, and not beyond the transaction.
	stored []byte
	codec  byte
	// bytes counts what was decompressed: the budget of a page.
	bytes int64
	// report counts damage that could be made up for.
	report func(error)
	// entries is for what is decoded of raw.
	entries []entry
}

var errNoRecord = errors.New("missing")

// read reads the record under key through a cursor of its bucket. A
// missing one is a CorruptionError around errNoRecord.
func (r *reader) read(bucket []byte, c *bbolt.Cursor, key []byte, kind byte) (raw []byte, err error) {
	// A page that makes no sense costs what is on it, and no more.
	if panicked := guard(func() error {
		raw, err = r.seek(bucket, c, key, kind)
		return nil
	}); panicked != nil {
		return nil, damaged(bucket, key, panicked)
	}
	return raw, err
}

func (r *reader) seek(bucket []byte, c *bbolt.Cursor, key []byte, kind byte) ([]byte, error) {
	r.key = append(append(r.key[:0], key...), 0, 0)
	k, v := c.Seek(r.key)
	if k == nil || !bytes.HasPrefix(k, key) || len(k) != len(key)+pieceNoBytes {
		return nil, damaged(bucket, key, errNoRecord)
	}
	return r.readAt(bucket, c, key, kind, v)
}

// readAt reads the record whose first piece v the cursor stands on; it
// leaves the cursor on the last piece.
func (r *reader) readAt(bucket []byte, c *bbolt.Cursor, key []byte, kind byte, v []byte) ([]byte, error) {
	total, err := storedLength(v)
	if err != nil || v[1] != kind {
		return nil, damaged(bucket, key, cmp.Or(err, errEnvelope))
	}
	record := v
	if len(v) < total {
		r.joined = append(r.joined[:0], v...)
		for no := 1; len(r.joined) < total; no++ {
			k, v := c.Next()
			if len(k) != len(key)+pieceNoBytes || !bytes.HasPrefix(k, key) ||
				int(binary.BigEndian.Uint16(k[len(key):])) != no || len(v) == 0 || len(v) > total-len(r.joined) {
				return nil, damaged(bucket, key, fmt.Errorf("piece %d of a record is missing", no))
			}
			r.joined = append(r.joined, v...)
		}
		record = r.joined
	}
	return r.unpack(bucket, key, record)
}

var errEnvelope = errors.New("not an envelope of its kind")

// storedLength is how long the whole record is of which v is the first piece.
func storedLength(v []byte) (int, error) {
	if len(v) < envelopeBytes {
		return 0, errors.New("cut short")
	}
	stored, raw := binary.BigEndian.Uint32(v[4:]), binary.BigEndian.Uint32(v[8:])
	if stored > maxRaw || raw > maxRaw {
		return 0, errEnvelope
	}
	return envelopeBytes + int(stored), nil
}

// unpack gives what a whole record holds.
func (r *reader) unpack(bucket, key, record []byte) ([]byte, error) {
	total, err := storedLength(record)
	if err != nil {
		return nil, damaged(bucket, key, err)
	}
	raw := int(binary.BigEndian.Uint32(record[8:]))
	if len(record) != total || recordSum(key, record) != binary.BigEndian.Uint32(record[12:]) {
		return nil, damaged(bucket, key, errors.New("checksum does not match"))
	}
	r.bytes += int64(raw)
	body := record[envelopeBytes:]
	r.stored, r.codec = body, record[0]
	switch record[0] {
	case codecRaw:
		r.raw = append(r.raw[:0], body...)
	case codecS2:
		if n, err := s2.DecodedLen(body); err != nil || n != raw {
			return nil, damaged(bucket, key, errors.New("s2 length does not match"))
		}
		if cap(r.raw) < raw {
			r.raw = make([]byte, raw)
		}
		out, err := s2.Decode(r.raw[:raw], body)
		if err != nil {
			return nil, damaged(bucket, key, err)
		}
		r.raw = out
	case codecZstd:
		if cap(r.raw) < raw {
			r.raw = make([]byte, 0, raw)
		}
		out, err := r.codecs.dec.DecodeAll(body, r.raw[:0])
		if err != nil {
			return nil, damaged(bucket, key, err)
		}
		r.raw = out
	default:
		return nil, damaged(bucket, key, fmt.Errorf("unknown codec %d", record[0]))
	}
	if len(r.raw) != raw {
		return nil, damaged(bucket, key, errors.New("length does not match"))
	}
	return r.raw, nil
}

func damaged(bucket, key []byte, err error) error {
	var seq uint64
	if len(key) >= 8 {
		seq = binary.BigEndian.Uint64(key)
	}
	return &store.CorruptionError{Where: fmt.Sprintf("%s %x", bucket, key), Seq: seq, Err: err}
}
