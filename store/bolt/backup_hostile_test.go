package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// madeUp gives the beginning of a stream that announces so many bytes.
func madeUp(t *testing.T, about int64) (*bytes.Buffer, *streamWriter) {
	t.Helper()
	var b bytes.Buffer
	w := &streamWriter{w: &b}
	if err := w.begin(streamHead{epoch: "00000000", head: 1, about: about}); err != nil {
		t.Fatal(err)
	}
	return &b, w
}

// refuses makes sure that a stream becomes no file, and leaves none.
func refuses(t *testing.T, stream io.Reader, want string) {
	t.Helper()
	dir := t.TempDir()
	_, err := WriteBackup(t.Context(), filepath.Join(dir, "b.db"), stream, nil)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v is left", left, err)
	}
}

// forever repeats a chunk, each time under the next number.
type forever struct {
	w   *streamWriter
	out *bytes.Buffer
	put func()
}

func (f *forever) Read(b []byte) (int, error) {
	if f.out.Len() == 0 {
		f.put()
	}
	return f.out.Read(b)
}

// A stream that never ends is ended, though nothing in it is for this version.
func TestWriteBackupEndless(t *testing.T) {
	out, w := madeUp(t, 1000)
	body := make([]byte, chunkHeader+chunkMost)
	refuses(t, &forever{w, out, func() {
		w.body = body
		if err := w.chunk(9); err != nil {
			t.Error(err)
		}
	}}, "far behind where it was to end")
}

// A stream of nothing but new kinds of records is none.
func TestWriteBackupManyBuckets(t *testing.T) {
	out, w := madeUp(t, 1000)
	n := 0
	refuses(t, &forever{w, out, func() {
		n++
		if err := errors.Join(w.put([]byte("b"+strconv.Itoa(n)), []byte("k"), nil), w.flush()); err != nil {
			t.Error(err)
		}
	}}, "too many kinds of records")
}

// What a stream says of its size does not overflow.
func TestWriteBackupHuge(t *testing.T) {
	out, _ := madeUp(t, math.MaxInt64)
	refuses(t, out, "of free space")
}

// Numbers of Things that no history can have given take no memory.
func TestWriteBackupHugeIDs(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	appendN(t, db, 1, 3)
	in := &streamReader{r: bytes.NewReader(backupOf(t, db, nil))}
	mustClose(t, db)
	head, err := in.begin()
	if err != nil {
		t.Fatal(err)
	}
	var made bytes.Buffer
	out := &streamWriter{w: &made}
	if err := out.begin(head); err != nil {
		t.Fatal(err)
	}
	var totals *streamTotals
	for totals == nil {
		if totals, err = in.next(func(bucket, key, value []byte) error {
			if bytes.Equal(key, keyIDs) {
				value = sealed(binary.BigEndian.AppendUint64(nil, math.MaxUint64))
			}
			return out.put(bucket, key, value)
		}); err != nil {
			t.Fatal(err)
		}
	}
	name := idKey(math.MaxUint32 - 1)
	if err := errors.Join(out.put(bucketThings, name, checkedValue(name, []byte("far.away"))), out.end(*totals)); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = WriteBackup(t.Context(), filepath.Join(t.TempDir(), "b.db"), &made, nil)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 512<<20 {
		t.Errorf("it took %d MiB (%v)", took>>20, err)
	}
}
