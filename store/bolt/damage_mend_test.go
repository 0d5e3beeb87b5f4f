package bolt

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"tbhist/store"
)

// countedFile counts the pages that are read.
type countedFile struct {
	*os.File
	pages int
}

func (f *countedFile) ReadAt(b []byte, off int64) (int, error) {
	f.pages += len(b) / pageSize
	return f.File.ReadAt(b, off)
}

// leavesOf gives the leaves of a bucket, in the order of keys.
func leavesOf(t *testing.T, f *os.File, bucket string) (ids []uint64) {
	t.Helper()
	p, err := openPages(f)
	if err != nil {
		t.Fatal(err)
	}
	trees, err := p.trees()
	if err != nil {
		t.Fatal(err)
	}
	w := treeWalk{
		leaf: func(_, _ []byte, id uint64, _ []element) { ids = append(ids, id) },
		bad:  func(_, _ []byte, id uint64, _ int, err error) { t.Errorf("page %d: %v", id, err) },
	}
	for i := range trees {
		if trees[i].name == bucket {
			p.walk(&w, trees[i].root)
		}
	}
	return ids
}

// However many pages are damaged, the file is read a few times and not once for
// each of them.
func TestMendingReadsLittle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path)
	for i := range 40 {
		u := update("a", i)
		u.Data = fmt.Appendf(nil, "%q", noise(i, 100_000))
		mustAppend(t, db, u, update("b", i))
	}
	mustClose(t, db)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	leaves := leavesOf(t, f, "blocks")
	for _, id := range leaves[len(leaves)/4 : len(leaves)*3/4] {
		if _, err := f.WriteAt(make([]byte, pageSize), int64(id)*pageSize); err != nil {
			t.Fatal(err)
		}
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	counted := &countedFile{File: f}
	found, err := mendPages(counted)
	if err != nil || len(found) < len(leaves)/2 || len(leaves) < 500 {
		t.Errorf("%d places were found where %d of %d pages are gone: %v", len(found), len(leaves)/2, len(leaves), err)
	}
	if most := 6 * int(info.Size()/pageSize); counted.pages > most {
		t.Errorf("%d pages were read, of a file of %d", counted.pages, most/6)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	db = openTest(t, path)
	if s := db.State(); s.Head != 80 {
		t.Errorf("%+v", s)
	}
	mustClose(t, db)
}

// What was forgotten stays so where the name of the bucket that says it is
// damaged.
func TestForgottenBucketRenamed(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	defer mustClose(t, db)
	appendN(t, db, 0, 20)
	mustForget(t, db, "a", false)
	path := crashed(t, db)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.ReplaceAll(raw, bucketForgotten, []byte("forgotteo"))
	if bytes.Equal(raw, damaged) {
		t.Fatal("there is no such bucket")
	}
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	again := openTest(t, path)
	defer mustClose(t, again)
	if all, _ := holds(t, again, store.Query{Name: "a"}); len(all) != 0 || again.State().Things != 1 || len(again.file.found) != 1 {
		t.Errorf("history holds %v of it, %+v; found %v", all, again.State(), again.file.found)
	}
}
