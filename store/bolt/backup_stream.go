package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"tbhist/migrations"
)

// The backup stream of docs/FORMAT.md.
const (
	streamMagic   = "\x89tbhbk\r\n"
	streamVersion = 1
	streamHeader  = 44

	chunkHeader = 16
	chunkPairs  = 1 // kinds
	chunkEnd    = 2
	// chunkBytes is how long a chunk becomes, chunkMost how long one may be.
	chunkBytes = 256 << 10
	chunkMost  = 1 << 20
	streamEnd  = 32 // body of the last chunk
)

// ErrBadBackup: a stream that is no backup, or one that is cut or damaged.
var ErrBadBackup = errors.New("not a whole backup")

// streamHead is what a stream says first.
type streamHead struct {
	epoch string
	head  uint64
	about int64 // bytes of the stream
}

// streamTotals is what it says last. kept is how many updates there are by
// limits: more than updates where damage was set aside.
type streamTotals struct{ things, updates, kept, pairs uint64 }

// streamWriter writes a stream to w. It is a sink.
type streamWriter struct {
	w      io.Writer
	bytes  int64
	chunks uint32
	pairs  uint64
	bucket string
	body   []byte // behind room for a chunk's header
}

func (s *streamWriter) begin(h streamHead) error {
	b := append(make([]byte, 0, streamHeader), streamMagic...)
	b = binary.BigEndian.AppendUint32(b, streamVersion)
	b = binary.BigEndian.AppendUint32(b, migrations.Current)
	b = append(b, h.epoch...)
	b = binary.BigEndian.AppendUint64(b, h.head)
	b = binary.BigEndian.AppendUint64(b, uint64(h.about))
	return s.write(sealed(b))
}

func (s *streamWriter) write(b []byte) error {
	n, err := s.w.Write(b)
	s.bytes += int64(n)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// put adds a pair; it is written once a chunk is full.
func (s *streamWriter) put(bucket, key, value []byte) error {
	if s.bucket != string(bucket) || len(s.body) >= chunkBytes {
		if err := s.flush(); err != nil {
			return err
		}
		s.bucket = string(bucket)
		s.body = append(make([]byte, chunkHeader, chunkBytes+(64<<10)), byte(len(bucket)))
		s.body = append(s.body, bucket...)
	}
	s.body = binary.AppendUvarint(s.body, uint64(len(key)))
	s.body = binary.AppendUvarint(s.body, uint64(len(value)))
	s.body = append(append(s.body, key...), value...)
	s.pairs++
	return nil
}

func (s *streamWriter) flush() error {
	if s.bucket == "" {
		return nil
	}
	s.bucket = ""
	return s.chunk(chunkPairs)
}

// chunk writes body as a chunk of some kind.
func (s *streamWriter) chunk(kind byte) error {
	b := s.body
	s.chunks++
	binary.BigEndian.PutUint32(b, s.chunks)
	b[4], b[5], b[6], b[7] = kind, 0, 0, 0
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-chunkHeader))
	binary.BigEndian.PutUint32(b[12:], chunkSum(b[:12], b[chunkHeader:]))
	return s.write(b)
}

func (s *streamWriter) end(t streamTotals) error {
	if err := s.flush(); err != nil {
		return err
	}
	s.body = make([]byte, chunkHeader, chunkHeader+streamEnd)
	for _, n := range []uint64{t.things, t.updates, t.kept, s.pairs} {
		s.body = binary.BigEndian.AppendUint64(s.body, n)
	}
	return s.chunk(chunkEnd)
}

func chunkSum(header, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(header, castagnoli), castagnoli, body)
}

// streamReader reads a stream, and believes nothing that no checksum stands
// for.
type streamReader struct {
	r      io.Reader
	bytes  int64
	chunks uint32
	pairs  uint64
	body   []byte
	most   int64 // bytes that it may have
	// buckets are those that there were a record of.
	buckets map[string]bool
}

// Bounds on what a stream may claim. Whoever made it may have given its
// checksums to anything.
const (
	// mostFactor times the bytes that a stream announces, and mostBeyond, is
	// what it may have: what is announced is a rough guess, and leaves names
	// and documentation URLs out.
	mostFactor = 8
	mostBeyond = 256 << 20
	// mostBuckets bounds how many kinds of records there are.
	mostBuckets = 64
)

// bad says what is wrong with the stream where it was read last.
func (s *streamReader) bad(what string) error {
	return fmt.Errorf("%w: %s (after %d bytes): take another", ErrBadBackup, what, s.bytes)
}

// fill reads all of b.
func (s *streamReader) fill(b []byte) error {
	n, err := io.ReadFull(s.r, b)
	s.bytes += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return s.bad("it is cut short")
	}
	return err
}

func (s *streamReader) begin() (h streamHead, err error) {
	b := make([]byte, streamHeader)
	if err := s.fill(b[:len(streamMagic)]); err != nil {
		return h, err
	}
	if string(b[:len(streamMagic)]) != streamMagic {
		return h, s.bad("it does not begin as a backup does")
	}
	if err := s.fill(b[len(streamMagic):]); err != nil {
		return h, err
	}
	b, ok := openSealed(b, streamHeader-4)
	if !ok {
		return h, s.bad("a checksum does not match")
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != streamVersion {
		return h, fmt.Errorf("%w: its form is version %d, this tbhist knows %d: use the tbhist that took it", ErrBadBackup, v, streamVersion)
	}
	if err := migrations.Check(binary.BigEndian.Uint32(b[12:])); err != nil {
		return h, err
	}
	about := int64(min(binary.BigEndian.Uint64(b[32:]), math.MaxInt64))
	s.most = mostFactor*min(about, math.MaxInt64/(2*mostFactor)) + mostBeyond
	return streamHead{epoch: string(b[16:24]), head: binary.BigEndian.Uint64(b[24:]), about: about}, nil
}

// next reads a chunk and hands its pairs to put; end is set once it was the
// last. The pairs live until the next call.
func (s *streamReader) next(put func(bucket, key, value []byte) error) (end *streamTotals, err error) {
	var header [chunkHeader]byte
	if err := s.fill(header[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[8:])
	if s.chunks++; binary.BigEndian.Uint32(header[:]) != s.chunks || size > chunkMost {
		return nil, s.bad("a piece of it is missing or damaged")
	}
	if s.bytes+int64(size) > s.most {
		return nil, s.bad("it goes on, far behind where it was to end")
	}
	if uint32(cap(s.body)) < size {
		s.body = make([]byte, size)
	}
	s.body = s.body[:size]
	if err := s.fill(s.body); err != nil {
		return nil, err
	}
	if chunkSum(header[:12], s.body) != binary.BigEndian.Uint32(header[12:]) {
		return nil, s.bad("a checksum does not match")
	}
	switch header[4] {
	case chunkPairs:
		return nil, s.each(put)
	case chunkEnd:
		return s.finish()
	}
	return nil, nil // of a later version
}

func (s *streamReader) each(put func(bucket, key, value []byte) error) error {
	f := fields{b: s.body}
	bucket := f.take(uint64(f.byte()))
	if !s.buckets[string(bucket)] {
		if len(s.buckets) == mostBuckets {
			return s.bad("it has too many kinds of records")
		}
		if s.buckets == nil {
			s.buckets = make(map[string]bool)
		}
		s.buckets[string(bucket)] = true
	}
	for len(f.b) > 0 && !f.bad {
		k, v := f.uv(), f.uv()
		key, value := f.take(k), f.take(v)
		if f.bad || len(bucket) == 0 || len(key) == 0 {
			return s.bad("a piece of it makes no sense")
		}
		s.pairs++
		if err := put(bucket, key, value); err != nil {
			return err
		}
	}
	if f.bad {
		return s.bad("a piece of it makes no sense")
	}
	return nil
}

func (s *streamReader) finish() (*streamTotals, error) {
	if len(s.body) < streamEnd {
		return nil, s.bad("its end makes no sense")
	}
	t := &streamTotals{
		things: binary.BigEndian.Uint64(s.body), updates: binary.BigEndian.Uint64(s.body[8:]),
		kept: binary.BigEndian.Uint64(s.body[16:]), pairs: binary.BigEndian.Uint64(s.body[24:]),
	}
	if t.pairs != s.pairs {
		return nil, s.bad(fmt.Sprintf("it has %d records where %d were written", s.pairs, t.pairs))
	}
	var more [1]byte
	switch n, err := io.ReadFull(s.r, more[:]); {
	case n > 0:
		return nil, s.bad("something follows its end")
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return t, nil
}
