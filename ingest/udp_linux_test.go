package ingest

import (
	"testing"

	"tbhist/thing"
)

// What the kernel drops is counted, to the last datagram, though nothing
// comes behind it.
func TestUDPKernelDrops(t *testing.T) {
	const n = 2000
	b := newBench(t, Options{QueueUpdates: 1, UDPBuffer: 8 << 10})
	out := b.udp()
	payload := pack(t, "a", make([]byte, 300))

	// The reader is held back, so that the socket's buffer fills up.
	if _, err := out.Write(payload); err != nil {
		t.Fatal(err)
	}
	b.wait("one has come", func() bool { return b.count("tbhist_updates_accepted_total", "transport=udp") == 1 })
	for range n - 1 {
		if _, err := out.Write(payload); err != nil {
			t.Fatal(err)
		}
	}

	taken := 0
	var drops float64
	for {
		drops = b.count("tbhist_udp_kernel_drops_total")
		if float64(taken)+drops >= n {
			break
		}
		b.wait("an update or all drops are there", func() bool {
			drops = b.count("tbhist_udp_kernel_drops_total")
			b.mu.Lock()
			defer b.mu.Unlock()
			return len(b.gather.Updates) > 0 || float64(taken)+drops >= n
		})
		b.mu.Lock()
		there := len(b.gather.Updates)
		b.mu.Unlock()
		if there > 0 {
			b.take(there, func(int, *thing.Update) { taken++ })
		}
	}
	if drops == 0 || float64(taken)+drops != n {
		t.Errorf("of %d datagrams %d came and %v were counted as dropped", n, taken, drops)
	}
}
