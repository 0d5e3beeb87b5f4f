package zmtp

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The tests of this file and of rows_frames_test.go are the rows of docs/PROTOCOL.md, What a listener
// must withstand: each sends those bytes to a listener of each role that
// they apply to.

// arena is a listener under attack, with good peers beside it.
type arena struct {
	*testListener
	role       Role
	good       *raw
	frames     atomic.Int64
	fds        int
	goroutines int
}

// underAttack runs attack against a listener of each role. A peer that was
// there before must be served during and after it, a new one must be let
// in, and nothing may be left of the attackers.
func underAttack(t *testing.T, roles []Role, l Limits, attack func(t *testing.T, a *arena)) {
	for _, role := range roles {
		t.Run(string(role), func(t *testing.T) {
			a := &arena{role: role}
			a.testListener = listen(t, ListenerOptions{Role: role, Limits: l}, serveRole(role, func(*Conn, Frame) { a.frames.Add(1) }))
			a.good = shake(t, a.addr, peerOf(role), 1)
			check(a.good, role)
			a.fds, a.goroutines = openFDs(), runtime.NumGoroutine()
			attack(t, a)
			check(a.good, role)
			works(t, a.addr, role)
			wait(t, "only the good peer is left", func() bool { return a.Conns() == 1 })
			wait(t, "file descriptors and goroutines are back", func() bool {
				return openFDs() <= a.fds && runtime.NumGoroutine() <= a.goroutines
			})
		})
	}
}

// openFDs counts this process's file descriptors where the system tells.
func openFDs() int {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// refuses sends each of the bytes on a connection of its own, and wants it
// closed for the reason.
func (a *arena) refuses(t *testing.T, reason string, handshake bool, cases map[string][][]byte) {
	t.Helper()
	for name, sent := range cases {
		before := a.count(reason)
		var r *raw
		if handshake {
			r = shake(t, a.addr, peerOf(a.role), 1)
		} else {
			r = dialRaw(t, a.addr)
		}
		r.send(sent...)
		r.closed(name)
		wait(t, name+" is counted as "+reason, func() bool { return a.count(reason) > before })
		check(a.good, a.role)
	}
}

// allocates runs f and gives how many bytes were allocated meanwhile, by
// everything.
func allocates(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// heapInUse is the memory of heap and stacks in use after collection.
func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func TestRow01Silence(t *testing.T) {
	l := Limits{Handshake: time.Second}
	underAttack(t, listenerRoles, l, func(t *testing.T, a *arena) {
		var silent []*raw
		for _, sent := range [][]byte{
			nil,
			{0xff},
			greeting(0)[:9], greeting(0)[:10], greeting(0)[:11], greeting(0)[:63], greeting(0),
			append(greeting(0), 4), append(greeting(1), ready(peerOf(a.role))[:20]...),
		} {
			r := dialRaw(t, a.addr)
			r.send(sent)
			silent = append(silent, r)
		}
		works(t, a.addr, a.role) // nobody is locked out meanwhile
		for i, r := range silent {
			r.closed(fmt.Sprint("silent peer ", i))
		}
		wait(t, "all are counted", func() bool { return a.count(refusedHandshake) == len(silent) })
	})
}

// A peer that sends its greeting byte by byte has no more time than others.
func TestRow01Dripping(t *testing.T) {
	l := Limits{Handshake: time.Second}
	underAttack(t, []Role{Router}, l, func(t *testing.T, a *arena) {
		r := dialRaw(t, a.addr)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			if i == 64 {
				t.Fatal("the whole greeting was waited for")
			}
			if _, err := r.Write(greeting(0)[i : i+1]); err != nil {
				break
			}
			<-tick.C
		}
		r.closed("dripping")
		if n := a.count(refusedHandshake); n != 1 {
			t.Errorf("%d are counted", n)
		}
	})
}

func TestRow02NotZMTP(t *testing.T) {
	underAttack(t, listenerRoles, Limits{}, func(t *testing.T, a *arena) {
		a.refuses(t, refusedProtocol, false, map[string][][]byte{
			"HTTP": {[]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
			"TLS":  {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")},
			"SSH":  {[]byte("SSH-2.0-OpenSSH_9.2p1\r\n")},
		})
		src := rand.NewChaCha8([32]byte{2})
		for i := range 300 {
			r := dialRaw(t, a.addr)
			b := make([]byte, 1+rand.New(src).IntN(400))
			_, _ = src.Read(b)
			b[0] &= 0x7f // not the beginning of a greeting, which would be waited for
			b = append(b, 1, 1)
			r.send(b)
			r.closed(fmt.Sprint("random ", i))
		}
	})
}

func TestRow03BrokenReady(t *testing.T) {
	underAttack(t, listenerRoles, Limits{}, func(t *testing.T, a *arena) {
		kind := peerOf(a.role)
		cut := property("Socket-Type", kind)
		huge := append([]byte("\x0bSocket-Type\x7f\xff\xff\xff"), kind...)
		a.refuses(t, refusedProtocol, false, map[string][][]byte{
			"cut property":          {greeting(0), appendCommand(nil, "READY", cut[:len(cut)-1])},
			"cut property name":     {greeting(0), appendCommand(nil, "READY", cut[:5])},
			"cut property size":     {greeting(0), appendCommand(nil, "READY", cut[:14])},
			"name length ff":        {greeting(0), appendCommand(nil, "READY", []byte{0xff})},
			"value length 7fffffff": {greeting(0), appendCommand(nil, "READY", huge)},
			"value length ffffffff": {greeting(0), appendCommand(nil, "READY", []byte("\x01a\xff\xff\xff\xff"))},
			"property without name": {greeting(0), appendCommand(nil, "READY", property("", "x"))},
			"property twice":        {greeting(0), appendCommand(nil, "READY", cut, cut)},
			"odd property name":     {greeting(0), appendCommand(nil, "READY", cut, property("\xff\xfe", ""))},
			"empty command":         {greeting(0), {4, 0}},
			"command name cut":      {greeting(0), {4, 2, 9, 'R'}},
			"not READY":             {greeting(0), appendCommand(nil, "HELLO", cut)},
			"a message":             {greeting(0), message("READY")},
			"READY with MORE":       {greeting(0), append([]byte{5}, ready(kind)[1:]...)},
			"reserved flag":         {greeting(0), append([]byte{0x84}, ready(kind)[1:]...)},
			"endless identity":      {greeting(0), appendCommand(nil, "READY", cut, property("Identity", strings.Repeat("i", 256)))},
			"as server":             {append(greeting(0)[:32], append([]byte{1}, make([]byte, 31)...)...)},
			"ERROR":                 {greeting(0), appendCommand(nil, "ERROR", []byte("\x02no"))},
		})
		a.refuses(t, refusedSocketType, false, map[string][][]byte{
			"no Socket-Type": {greeting(0), appendCommand(nil, "READY", property("Identity", ""))},
			"no property":    {greeting(0), appendCommand(nil, "READY")},
		})
		a.refuses(t, refusedMechanism, false, map[string][][]byte{
			"PLAIN": {append(append(greeting(0)[:12:12], "PLAIN"...), make([]byte, 47)...)},
			"CURVE": {append(append(greeting(0)[:12:12], "CURVE"...), make([]byte, 47)...)},
			"none":  {append(greeting(0)[:12:12], make([]byte, 52)...)},
		})
	})
}

func TestRow04SocketType(t *testing.T) {
	underAttack(t, listenerRoles, Limits{}, func(t *testing.T, a *arena) {
		for _, kind := range []string{"", "NONSENSE", "PUB", "SUB", "XPUB", "XSUB", "REQ", "REP", "DEALER", "ROUTER", "PUSH", "PULL", "PAIR", "sub", "SUB\x00"} {
			if a.role.accepts(kind) {
				r := shake(t, a.addr, kind, 0)
				check(r, a.role)
				_ = r.Close()
				continue
			}
			a.refuses(t, refusedSocketType, false, map[string][][]byte{kind: {greeting(0), ready(kind)}})
		}
	})
}

func TestRow05HugeFrames(t *testing.T) {
	underAttack(t, listenerRoles, Limits{}, func(t *testing.T, a *arena) {
		before, after := map[string][][]byte{}, map[string][][]byte{}
		for _, size := range []uint64{1 << 63, 1 << 62, 1 << 46, 1 << 40, 8 << 30, 1<<64 - 1, 9 << 20} {
			before[fmt.Sprintf("%#x before the handshake", size)] = [][]byte{greeting(0), announce(flagCommand, size)}
			for _, flags := range []byte{0, flagMore, flagCommand} {
				after[fmt.Sprintf("%#x, flags %d", size, flags)] = [][]byte{announce(flags, size), []byte("some of it")}
			}
		}
		n := allocates(func() {
			a.refuses(t, refusedTooLarge, false, before)
			a.refuses(t, refusedTooLarge, true, after)
		})
		// What dozens of handshakes and log lines cost.
		if n > 8<<20 {
			t.Errorf("%d bytes were allocated", n)
		}
	})
}

// A frame within the limits that is announced and not sent costs what was
// sent.
func TestRow05AnnouncedOnly(t *testing.T) {
	const peers = 200
	underAttack(t, []Role{Sub}, Limits{MaxFrame: 16 << 20}, func(t *testing.T, a *arena) {
		n := allocates(func() {
			for range peers {
				r := shake(t, a.addr, "PUB", 0)
				r.send(announce(0, 15<<20), make([]byte, 2000))
				check(a.good, a.role)
				defer func() { _ = r.Close() }()
			}
		})
		if n > peers*(400<<10) {
			t.Errorf("%d bytes were allocated for %d announced frames", n, peers)
		}
	})
}

func TestOldVersions(t *testing.T) {
	underAttack(t, listenerRoles, Limits{}, func(t *testing.T, a *arena) {
		v := func(b ...byte) [][]byte { return [][]byte{b} }
		a.refuses(t, refusedOldVersion, false, map[string][][]byte{
			"1.0, anonymous":         v(1, 0),
			"1.0, with an identity":  {{5, 0}, []byte("name")},
			"1.0, long identity":     v(0xff, 0, 0, 0, 0, 0, 0, 1, 44, 0),
			"1.0 behind a signature": v(0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 0),
			"2.0":                    v(0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 1),
			"2.0, with socket type":  v(0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 1, 2, 0, 0),
			"2.1":                    v(0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 2),
		})
		if n := strings.Count(a.logs.String(), "reason="+refusedOldVersion); n != 1 {
			t.Errorf("%d log lines about old versions:\n%s", n, a.logs.String())
		}
		if !strings.Contains(a.logs.String(), "3.0 or newer is taken") {
			t.Errorf("the log does not say what is taken:\n%s", a.logs.String())
		}
	})
}
