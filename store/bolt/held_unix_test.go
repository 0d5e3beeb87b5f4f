//go:build unix

package bolt

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// While the file is opened anew nobody else can lock it, not even for a moment,
// and afterwards it is let go of as ever.
func TestLockIsHeldWhileReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path)
	appendN(t, db, 0, 5)
	other, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	stop, taken := make(chan struct{}), make(chan bool)
	go func() {
		for {
			if locked, _ := lock(other, true); locked {
				taken <- true
				return
			}
			select {
			case <-stop:
				taken <- false
				return
			default:
			}
		}
	}()
	db.writing.Lock()
	for range 100 {
		if err := db.reopen(false); err != nil {
			t.Error(err)
			break
		}
	}
	db.writing.Unlock()
	close(stop)
	if <-taken {
		t.Fatal("another opening of the file got the lock")
	}
	appendN(t, db, 5, 5)
	wantWhole(t, db, 20)
	mustClose(t, db)
	if locked, err := lock(other, true); !locked {
		t.Errorf("the lock is not let go of: %v", err)
	}
}

// A panic in a write costs no mapping: bbolt is closed if it can be.
func TestPanicsLeaveNoMapping(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path)
	defer mustClose(t, db)
	appendN(t, db, 0, 5)
	for range 20 {
		db.writing.Lock()
		err := db.update(false, func(*bbolt.Tx) error { panic("a page that makes no sense") })
		db.writing.Unlock()
		if err == nil {
			t.Fatal("no error")
		}
	}
	appendN(t, db, 5, 5)
	wantWhole(t, db, 20)
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skipf("the system does not tell what is mapped: %v", err)
	}
	if n := bytes.Count(maps, []byte(path)); n != 1 {
		t.Errorf("the file is mapped %d times", n)
	}
}
