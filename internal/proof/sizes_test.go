//go:build proof

package proof

import (
	"fmt"
	"strings"
	"testing"
)

// sized makes an update that has just so many bytes.
func sized(ns string, size int) []byte {
	frame := fmt.Sprintf(`{"type": "thing_update", "ns": %q, "ts": 5.0, "data": ""}`, ns)
	return []byte(strings.Replace(frame, `""`, `"`+strings.Repeat("x", size-len(frame))+`"`, 1))
}

// Frames of every size go in and come out; those that cannot be taken are
// counted, and the connection lives on.
func TestFrameSizes(t *testing.T) {
	for _, pair := range [][2]string{{"PUB", "SUB"}, {"XPUB", "XSUB"}} {
		t.Run(pair[0]+" to "+pair[1], func(t *testing.T) {
			b, z := startBroker(t), startLibzmq(t)
			in := z.open(pair[0], "in", b.url(inputPort), nil)
			if pair[0] == "XPUB" { // it tells of the broker's subscription
				if s := in.recv(); len(s) != 1 || string(s[0]) != "\x01" {
					t.Fatalf("the broker subscribes with %q", s)
				}
			} else {
				in = z.publisher(b, "in-again", b.url(inputPort), nil)
			}
			out := z.open(pair[1], "out", b.url(feedPort), nil, `{"type": "thing_update"`)
			eventually(t, "the subscriber is there", func() bool { return b.metric("tbhist_subscribers") == 1 })

			sizes := []int{72, 127, 128, 254, 255, 256, 257, 4096, 8191, 8192, 8193, 65535, 65536, 65537, 262144, mib - 1, mib}
			bytes := 0
			for i, size := range sizes {
				in.send(sized(fmt.Sprintf("size.s%d", size), size))
				bytes += size
				u := out.updates(1)[0]
				if want := fmt.Sprintf("size.s%d", size); u.NS != want || u.Seq != uint64(i+1) {
					t.Fatalf("after %d bytes there comes %q with seq %d, not %q with seq %d", size, u.NS, u.Seq, want, i+1)
				}
				if want := size - len(sized(u.NS, 72)) + 72; size != want {
					t.Fatalf("%d bytes were made %d", size, want)
				}
				if want := string(sized(u.NS, size)); !strings.Contains(want, `"data": `+string(u.Data)+`}`) {
					t.Fatalf("the data of the update of %d bytes has not come back", size)
				}
			}

			refused := []struct {
				frame  []byte
				reason string
			}{
				{[]byte{}, "empty"},
				{[]byte("x"), "not_json"},
				{sized("size.big", mib+1), "too_large"},
				{sized("size.big", 8*mib), "too_large"},
			}
			for _, r := range refused {
				before := b.metric(refusedSeries(r.reason))
				in.send(r.frame)
				eventually(t, r.reason+" is counted", func() bool { return b.metric(refusedSeries(r.reason)) == before+1 })
			}

			// Each frame of a multipart message is a message of its own.
			in.send(sized("part.a", 100), []byte("[]"), sized("part.b", 100), []byte{}, sized("part.c", 100))
			var got []string
			for _, u := range out.updates(3) {
				got = append(got, fmt.Sprint(u.NS, " ", u.Seq))
			}
			want := fmt.Sprintf("[part.a %d part.b %d part.c %d]", len(sizes)+1, len(sizes)+2, len(sizes)+3)
			if fmt.Sprint(got) != want {
				t.Errorf("of the multipart message there come %v, not %v", got, want)
			}
			in.wantUnbroken()
			out.wantUnbroken()
			measured(t, "%s to %s through libzmq: %d sizes from %d B to %d B, %d bytes; %d frames refused, no connection lost",
				pair[0], pair[1], len(sizes), sizes[0], sizes[len(sizes)-1], bytes, len(refused)+2)
		})
	}
}
