package storetest

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

func testEmpty(t *testing.T, open Open) {
	f := newFixture(t, open, nil)
	if f.epoch == "" {
		t.Error("a new history has no Epoch")
	}
	other := newFixture(t, open, nil)
	if f.epoch == other.epoch {
		t.Errorf("two histories have the Epoch %q", f.epoch)
	}
	for _, step := range []func(){func() {}, func() { f.append() }, f.maintain, f.reopen} {
		step()
		f.check()
		f.read(store.Query{Name: "a"})
		f.read(store.Query{Tree: true, After: 7, UpTo: 5})
		f.read(store.Query{Tree: true, Last: 3})
		f.asOf(store.AsOf{Tree: true, At: math.MaxInt64}, whole)
	}
}

func testSeq(t *testing.T, open Open) {
	f := newFixture(t, open, nil)
	names := []thing.Name{"a", "a.b", "", "a-b"}
	for round := range 6 {
		for size := range 5 {
			var batch []thing.Update
			for i := range size * size {
				batch = append(batch, f.update(names[(i+round)%len(names)], fmt.Sprint(round, size, i)))
			}
			f.append(batch...)
		}
		f.check()
		switch round % 3 {
		case 0:
			f.reopen()
		case 1:
			f.maintain()
		}
		f.check()
	}
}

// append overwrites each batch after Append returned.
func testAppendCopies(t *testing.T, open Open) {
	f := newFixture(t, open, nil)
	for i := range 20 {
		u := f.update("a", fmt.Sprintf(`{"n":%d}`, i))
		u.Doc = fmt.Appendf(nil, `"http://doc/%d"`, i)
		f.append(u)
		f.check()
	}
}

// deepest is the longest name there may be.
var deepest = thing.Name(strings.Repeat("a.", 511) + "aa")

func testContent(t *testing.T, open Open) {
	f := newFixture(t, open, nil)
	var batch []thing.Update
	add := func(change func(u *thing.Update)) {
		u := f.update("content", "1")
		change(&u)
		batch = append(batch, u)
	}
	for _, name := range []thing.Name{
		"", "a", "a.b", "a-b", "a_b", "ab", "a.b.c", thing.Name("a" + strings.Repeat("0", 63)), deepest,
	} {
		add(func(u *thing.Update) { u.Name = name })
	}
	for _, data := range []string{
		"null", "true", "0", "-0", "0.0", "1e400", "1E+2", `""`, `"é\u0000\ud83d\ude00"`, "{}", "[]",
		`{"b":1,"a":2,"b":3}`, strings.Repeat("9", 1000), strings.Repeat("[", 511) + strings.Repeat("]", 511),
		`"` + strings.Repeat("x", 1999) + `"`, `"` + strings.Repeat("y", 70_000) + `"`,
	} {
		add(func(u *thing.Update) { u.Data = []byte(data) })
	}
	for _, doc := range []string{`""`, "0", "false", "[]", "{}", `"http://a/b"`, `{"url":"c"}`, "[null]"} {
		add(func(u *thing.Update) { u.Doc = []byte(doc) })
	}
	for _, ts := range []float64{
		0, math.Copysign(0, -1), 5, -5, 0.1 + 0.2, 1423351104.945123, math.Nextafter(1423351104.945123, 2e9),
		1e11, -1e11, 5e-324, -5e-324, 1e-300, 1 << 33, 99999999999.99998,
	} {
		add(func(u *thing.Update) { u.TS = ts })
	}
	for _, received := range []thing.Micros{0, 1, -1, 1e17, -1e17, 1423351104945123, math.MaxUint32, -math.MaxUint32} {
		add(func(u *thing.Update) { u.Received = received })
	}
	f.append(batch...)
	f.check()
	for i := range batch { // each once more, alone
		f.append(batch[i])
	}
	f.check()
	f.maintain()
	f.check()
	f.reopen()
	f.check()
}

func testStickyDoc(t *testing.T, open Open) {
	f := newFixture(t, open, []store.Rule{{Limit: store.Limit{Count: 2}}})
	for i, c := range []struct{ carried, want string }{
		{"", ""},
		{`""`, ""},
		{"0", ""},
		{"false", ""},
		{"[]", ""},
		{"{}", ""},
		{"0.0", ""},
		{"-0", ""},
		{"0e5", ""},
		{`"http://a"`, `"http://a"`},
		{"", `"http://a"`},
		{`""`, `"http://a"`},
		{"0", `"http://a"`},
		{"-0.0", `"http://a"`},
		{"0E-7", `"http://a"`},
		{"false", `"http://a"`},
		{"[]", `"http://a"`},
		{"{}", `"http://a"`},
		{"", `"http://a"`},
		{`" "`, `" "`},
		{"", `" "`},
		{"1", "1"},
		{"true", "true"},
		{"[0]", "[0]"},
		{`{"":null}`, `{"":null}`},
		{"0.1", "0.1"},
		{`"0"`, `"0"`},
		{"-1e5", "-1e5"},
		{`"http://b"`, `"http://b"`},
		{"", `"http://b"`},
	} {
		u := f.update("a.b", fmt.Sprint(i))
		if c.carried != "" {
			u.Doc = []byte(c.carried)
		}
		f.append(f.update("a", "0"), u, f.update("a.b.c", "0")) // not inherited
		if got := f.sticky("a.b"); string(got) != c.want {
			t.Fatalf("after an update with the documentation URL %q: %q is in force, want %q", c.carried, got, c.want)
		}
		switch i % 7 {
		case 3:
			f.maintain()
		case 5:
			f.reopen()
		}
		f.check()
	}
}

// sticky gives the documentation URL that Latest answers for a Thing.
func (f *fixture) sticky(name thing.Name) (sticky []byte) {
	f.t.Helper()
	found := false
	err := f.e.Latest(func(u *thing.Update, doc []byte) bool {
		if u.Name == name {
			found = true
			sticky = append([]byte(nil), doc...)
		}
		return !found
	})
	if err != nil || !found {
		f.t.Fatalf("Latest, for %q: found %v, %v", name, found, err)
	}
	return sticky
}

func testLatestStops(t *testing.T, open Open) {
	f := newFixture(t, open, nil)
	f.append(f.update("a", "1"), f.update("b", "2"), f.update("c", "3"))
	for stop := 1; stop <= 3; stop++ {
		n := 0
		err := f.e.Latest(func(*thing.Update, []byte) bool {
			n++
			return n < stop
		})
		if err != nil || n != stop {
			t.Errorf("stopped at the %dth Thing, Latest gave %d, %v", stop, n, err)
		}
	}
}
