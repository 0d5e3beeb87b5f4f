package wire

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"tbhist/thing"
)

// checkTS: the digits of a ts are those of strconv, which are the shortest.
func checkTS(t *testing.T, ts float64) {
	t.Helper()
	if math.IsNaN(ts) || math.IsInf(ts, 0) {
		return
	}
	got, want := string(AppendTS([]byte("x"), ts)), string(appendFloat([]byte("x"), ts))
	if got != want {
		t.Errorf("%v: got %s, want %s", ts, got, want)
	}
	if back, err := strconv.ParseFloat(got[1:], 64); err != nil || math.Float64bits(back) != math.Float64bits(ts) {
		t.Errorf("%v: %s is %v, %v", ts, got, back, err)
	}
}

func TestAppendTSIsShortest(t *testing.T) {
	for _, base := range []float64{
		0, 1e-6, 1e-4, 0.000123, 0.1, 0.3, 1, 1.5, 9.999999, 10, 1e6, 1423351104.945123, 1795000000.123456,
		1<<31 - 0.000001, 1<<32 - 0.000001, 1 << 32, 1<<32 + 0.000001, 1 << 33, 1e10 + 0.000001, 1e11, 1e15, 1e16, 1e17, 1e300,
	} {
		for _, ts := range []float64{base, math.Nextafter(base, -1), math.Nextafter(base, 1e301)} {
			checkTS(t, ts)
			checkTS(t, -ts)
		}
	}
	checkTS(t, math.Copysign(0, -1))
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		micros := rnd.Int64N(1 << rnd.IntN(54))
		ts := float64(micros) / 1e6
		checkTS(t, ts)
		checkTS(t, -ts)
		checkTS(t, math.Nextafter(ts, 1e300))
		checkTS(t, math.Float64frombits(rnd.Uint64()))
		checkTS(t, float64(rnd.Uint32())+rnd.Float64())
	}
}

func FuzzAppendTSIsShortest(f *testing.F) {
	f.Add(1795000000.123456)
	f.Add(4294967295.999999)
	f.Fuzz(checkTS)
}

func TestAppendUintIsStrconv(t *testing.T) {
	check := func(n uint64) {
		t.Helper()
		want := "x" + strconv.FormatUint(n, 10)
		if got := string(appendUint([]byte("x"), n)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		room := append(make([]byte, 0, 64), 'x')
		if got := string(appendUint(room, n)); got != want {
			t.Errorf("with room: got %s, want %s", got, want)
		}
	}
	for n := uint64(1); ; n *= 10 {
		check(n - 1)
		check(n)
		check(n + 1)
		if n > math.MaxUint64/10 {
			break
		}
	}
	check(math.MaxUint64)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		check(rnd.Uint64() >> rnd.IntN(64))
	}
}

func TestMicrosSurviveTheirText(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		m := thing.Micros(rnd.Int64N(MaxTS*2e6) - MaxTS*1e6)
		text := AppendMicros(nil, m)
		if back, ok := parseMicros(text); !ok || back != m {
			t.Errorf("%d: %s is %d, %v", int64(m), text, int64(back), ok)
		}
	}
}
