package bolt

import (
	"encoding/binary"
	"hash/crc32"
)

// The names of docs/FORMAT.md.
var (
	bucketMeta       = []byte("meta")
	bucketLimits     = []byte("limits")
	bucketThings     = []byte("things")
	bucketDocs       = []byte("docs")
	bucketLog        = []byte("log")
	bucketHeads      = []byte("heads")
	bucketIndex      = []byte("index")
	bucketBlocks     = []byte("blocks")
	bucketCheckpoint = []byte("checkpoint")
	bucketForgotten  = []byte("forgotten") // not in every history

	allBuckets = [][]byte{
		bucketMeta, bucketLimits, bucketThings, bucketDocs, bucketLog,
		bucketHeads, bucketIndex, bucketBlocks, bucketCheckpoint,
	}

	keyFormat  = []byte("format")
	keyEpoch   = []byte("epoch")
	keyCreated = []byte("created")
	keyHead    = []byte("head")
	keyIDs     = []byte("ids")
	keyLost    = []byte("lost")
	keyLimits  = []byte("limits")
	keyAged    = []byte("aged")
)

// Sizes of the format and of what is written by this version; readers take
// any.
const (
	pageSize      = 4096
	pieceBytes    = 2000 // two of them and their keys fill a page
	envelopeBytes = 16
	pieceNoBytes  = 2
	maxRaw        = 256 << 20

	blockUpdates  = 128      // of a block, and of a record of the log that may become one
	blockRaw      = 56 << 10 // a block of large updates ends here
	chunkThings   = 128
	segmentTarget = 32768 // updates
	segmentRaw    = 16 << 20
	partRaw       = 48 << 10 // of a checkpoint part
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func seqKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, 8+pieceNoBytes), seq)
}

func subKey(seq uint64, no uint32) []byte {
	k := binary.BigEndian.AppendUint64(make([]byte, 0, 12+pieceNoBytes), seq)
	return binary.BigEndian.AppendUint32(k, no)
}

func idKey(id uint32) []byte { return binary.BigEndian.AppendUint32(nil, id) }

// checkedValue is value behind the checksum of key and value: the form of
// short values that are no records.
func checkedValue(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(value)), sum), value...)
}

// openChecked gives the value back; ok is false for damage.
func openChecked(key, stored []byte) (value []byte, ok bool) {
	if len(stored) < 4 {
		return nil, false
	}
	value = stored[4:]
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return value, sum == binary.BigEndian.Uint32(stored)
}

// sealed is a fixed value followed by its own checksum.
func sealed(value []byte) []byte {
	return binary.BigEndian.AppendUint32(value, crc32.Checksum(value, castagnoli))
}

func openSealed(stored []byte, size int) ([]byte, bool) {
	if len(stored) != size+4 {
		return nil, false
	}
	return stored[:size], crc32.Checksum(stored[:size], castagnoli) == binary.BigEndian.Uint32(stored[size:])
}
