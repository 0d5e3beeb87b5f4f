package bolt

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

type usages interface {
	reads
	Usage(ctx context.Context, yield func(store.ThingUsage) bool) error
}

// Usage says of each Thing what its updates say, whether they are in the log,
// in segments or partly evicted.
func TestUsage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	rules := []store.Rule{
		{Prefix: "b", Limit: store.Limit{Count: 5}},
		{Prefix: "c", Limit: store.Limit{Bytes: 300, Age: time.Hour}},
	}
	open := func() *DB { return openTest(t, path, func(o *Options) { o.Rules = rules }) }
	db := open()
	given := make(map[thing.Name][]thing.Update)
	check := func(r usages, when string) {
		t.Helper()
		want := make(map[thing.Name]store.ThingUsage)
		if _, err := r.Read(t.Context(), store.Query{Tree: true}, func(u *thing.Update) bool {
			w, ok := want[u.Name]
			if !ok {
				w = store.ThingUsage{Name: u.Name, Oldest: u.Received}
			}
			w.Updates++
			w.Bytes += int64(u.Size())
			w.Newest = u.Received
			want[u.Name] = w
			return true
		}); err != nil {
			t.Fatal(err)
		}
		got := make(map[thing.Name]store.ThingUsage)
		if err := r.Usage(t.Context(), func(u store.ThingUsage) bool {
			if _, twice := got[u.Name]; twice {
				t.Errorf("%s: %q is there twice", when, u.Name)
			}
			got[u.Name] = u
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(given) || len(got) != len(want) {
			t.Errorf("%s: %d Things of %d", when, len(got), len(given))
		}
		for name, w := range want {
			g := got[name]
			for _, rule := range rules {
				if name.Under(rule.Prefix) {
					w.Limit = rule.Limit
				}
			}
			if g.Limit != w.Limit || g.Updates != w.Updates || g.Bytes != w.Bytes || g.Newest != w.Newest ||
				w.Oldest-g.Oldest > usageWithin || g.Oldest-w.Oldest > usageWithin {
				t.Errorf("%s: %+v, want %+v", when, g, w)
			}
		}
	}
	n := 0
	add := func(count int) {
		t.Helper()
		for range count {
			var us []thing.Update
			for _, name := range []string{"a", "a.x", "b", "b.y", "c", "c.z"} {
				n++
				u := recent(name, n*(1+n%3))
				u.Data = append(u.Data, make([]byte, n%50)...)
				us = append(us, u)
				given[u.Name] = append(given[u.Name], u)
			}
			if _, err := db.Append(t.Context(), us); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(30)
	check(db, "in the log")
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	check(db, "in a segment")
	add(40)
	check(db, "in both")
	sealOne(t, db)
	add(3)
	check(db, "in two segments and the log")
	mustClose(t, db)
	ro, err := OpenReadOnly(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	check(ro, "read-only")
	if err := ro.Close(); err != nil {
		t.Error(err)
	}
	db = open()
	check(db, "opened again")
	mustClose(t, db)
	if err := db.Usage(t.Context(), nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("of a closed history: %v", err)
	}
}
