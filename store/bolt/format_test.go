package bolt

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"tbhist/internal/wire"
	"tbhist/store"
	"tbhist/thing"
)

var writeFormat = flag.Bool("write-format", false, "write a new history into migrations/testdata instead of reading the one there")

const v1File = "../../migrations/testdata/v1.db.gz"

// v1Updates is what the recorded file was given, in two sittings.
func v1Updates() []thing.Update {
	var us []thing.Update
	for i := range 700 {
		u := thing.Update{
			Name: thing.Name([]string{"", "spacemon.electronics", "shop.laser", "a-b_c.d0"}[i%4]),
			Data: fmt.Appendf(nil, `{"n":%d,"text":"é \"%d\""}`, i, i*7919),
			TS:   1.4e9 + float64(i)/3, Received: thing.Micros(1795000000_000000) + thing.Micros(i)*1500,
		}
		switch i % 7 {
		case 1:
			u.Doc = []byte(`"http://example.org/laser"`)
		case 2:
			u.Doc = bytes.Repeat([]byte("7"), 600) // too long for an id
		case 3:
			u.TS = []float64{math.Copysign(0, -1), 0.1, -5.5, 1e11, 5e-324}[i%5]
		case 4:
			u.Received -= 3600_000000 // the clock stepped back
		}
		us = append(us, u)
	}
	return us
}

var v1Rules = []store.Rule{
	{Prefix: "shop", Limit: store.Limit{Count: 20}},
	{Prefix: "a-b_c", Limit: store.Limit{Bytes: 3000}},
}

// A file of format 1 is read for ever, the answer to the last byte.
func TestFormat1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v1.db")
	if *writeFormat {
		writeV1(t, path)
	}
	unpack(t, v1File, path)
	db := openTest(t, path, func(o *Options) { o.Rules = v1Rules })
	defer func() { _ = db.Close() }()
	if db.State().Epoch != "b276b2f7" || db.State().Head != 700 {
		t.Errorf("%+v", db.State())
	}
	first := map[thing.Name]uint64{"": 1, "spacemon.electronics": 1, "shop.laser": 156}
	left, kept := 3000, v1Updates()
	for i := len(kept) - 1; i >= 0; i-- { // the byte limit, worked out backwards
		if kept[i].Name != "a-b_c.d0" {
			continue
		}
		if left -= kept[i].Size(); left < 0 {
			break
		}
		first["a-b_c.d0"] = uint64(i/4 + 1)
	}
	var want, got []byte
	for i, u := range kept {
		u.Seq, u.ThingSeq = uint64(i+1), uint64(i/4+1)
		if u.ThingSeq >= first[u.Name] {
			want = append(wire.AppendUpdate(want, &u), '\n')
		}
	}
	_, err := db.Read(t.Context(), store.Query{Tree: true}, func(u *thing.Update) bool {
		got = append(wire.AppendUpdate(got, u), '\n')
		return true
	})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v; read\n%s\nwant\n%s", err, got, want)
	}
}

func writeV1(t *testing.T, path string) {
	db := openTest(t, path, func(o *Options) { o.Rules = v1Rules })
	us := v1Updates()
	for i := 0; i < 500; i += 50 {
		if _, err := db.Append(t.Context(), us[i:i+50]); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Maintain(); err != nil { // a segment and a checkpoint
		t.Fatal(err)
	}
	for i := 500; i < 700; i += 40 { // the log
		if _, err := db.Append(t.Context(), us[i:i+40]); err != nil {
			t.Fatal(err)
		}
	}
	// What a crash leaves: the file as it is now.
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(v1File, packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Logf("epoch of the new file: %s", db.State().Epoch)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func unpack(t *testing.T, from, to string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
