package wire

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"tbhist/thing"
)

// The reference update: as a thingsbus adaptor writes it.
const reference = `{"type": "thing_update", "ns": "spacemon.electronics", "documentation_url": "https://spacemon.example.org/electronics", "data": {"luminance": 106.09374213, "temperature": 21.48437172}, "ts": 1423351104.945123}`

func TestReferenceAllocates0(t *testing.T) {
	d := NewDecoder(Limits{})
	arena := make([]byte, 0, 4096)
	var draft Draft
	pack, frame := packReference(t), []byte(reference)
	bad := []byte(`{"type": "thing_update", "ns": "A", "data": 1}`)
	for name, decode := range map[string]func(){
		"JSON":    func() { _, _ = d.JSON(arena, frame, &draft) },
		"msgpack": func() { _, _ = d.Msgpack(arena, pack, &draft) },
		"refused": func() { _, _ = d.JSON(arena, bad, &draft) },
	} {
		if n := testing.AllocsPerRun(100, decode); n != 0 {
			t.Errorf("%s: %v allocations a message", name, n)
		}
	}
}

func packReference(t testing.TB) []byte {
	b, err := msgpack.Marshal(map[string]any{
		"type": "thing_update", "ns": "spacemon.electronics", "documentation_url": "https://spacemon.example.org/electronics",
		"data": map[string]any{"luminance": 106.09374213, "temperature": 21.48437172}, "ts": 1423351104.945123,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func BenchmarkJSON(b *testing.B) {
	d := NewDecoder(Limits{})
	arena := make([]byte, 0, 4096)
	var draft Draft
	frame := []byte(reference)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		frame[len(frame)-3] = byte('0' + n%10) // ts changes
		if _, err := d.JSON(arena, frame, &draft); err != nil {
			b.Fatal(err)
		}
	}
}

// The same frames when they are not plain.
func BenchmarkJSONStrict(b *testing.B) {
	d := NewDecoder(Limits{})
	arena := make([]byte, 0, 4096)
	var draft Draft
	frame := []byte(reference)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		draft = Draft{}
		if _, err := d.strict(arena, frame, &draft); err != nil {
			b.Fatal(err)
		}
	}
}

// Frames that differ, so that no branch is learned by heart.
func BenchmarkJSONVaried(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var frames [4096][]byte
	for i := range frames {
		frames[i] = fmt.Appendf(nil,
			`{"type": "thing_update", "ns": "site.room%d.sensor%d", "documentation_url": "http://wiki.example.org/sensors/%d", "data": {"luminance": %.14f, "ratio_busy": %.17f}, "ts": %.6f}`,
			rnd.IntN(97), rnd.IntN(1000), rnd.IntN(50), 100*rnd.Float64(), rnd.Float64(), 1.795e9+1e6*rnd.Float64())
	}
	d := NewDecoder(Limits{})
	arena := make([]byte, 0, 4096)
	var draft Draft
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if _, err := d.JSON(arena, frames[n%len(frames)], &draft); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJSONMended(b *testing.B) {
	d := NewDecoder(Limits{})
	arena := make([]byte, 0, 4096)
	var draft Draft
	frame := []byte(`{"type": "thing_update", "ns": "a.b", "data": {"x": NaN, "y": [1.5, Infinity]}, "ts": 1423351104.945}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.JSON(arena, frame, &draft); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMsgpack(b *testing.B) {
	d := NewDecoder(Limits{})
	arena := make([]byte, 0, 4096)
	var draft Draft
	pack := packReference(b)
	b.SetBytes(int64(len(pack)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Msgpack(arena, pack, &draft); err != nil {
			b.Fatal(err)
		}
	}
}

func referenceUpdate() *thing.Update {
	return &thing.Update{
		Name: "spacemon.electronics", Data: []byte(`{"luminance":106.09374213,"temperature":21.48437172}`),
		Doc: []byte(`"https://spacemon.example.org/electronics"`), TS: 1423351104.945123,
		Received: 1423351104_946001, Seq: 123456, ThingSeq: 1234,
	}
}

func BenchmarkAppendUpdate(b *testing.B) {
	u := referenceUpdate()
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		u.Seq++
		dst = AppendUpdate(dst[:0], u)
	}
}

func BenchmarkParseMessage(b *testing.B) {
	line := AppendUpdate(nil, referenceUpdate())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseMessage(line); err != nil {
			b.Fatal(err)
		}
	}
}
