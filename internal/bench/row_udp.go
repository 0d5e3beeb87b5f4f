package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/net/ipv4"
)

const (
	udpThings  = 1000
	udpRate    = 50_000
	udpSockets = 4
	udpBurst   = udpRate / 1000 // datagrams in a millisecond
	// udpBuffer is the rmem_max from which on the larger share is wanted.
	udpBuffer = 4 << 20
)

// udp measures which share of a stream of datagrams is kept.
func udp(ctx context.Context, b *bench, res *result) error {
	n := b.count(20 * udpRate)
	datagrams, err := b.workload(udpThings).datagrams(min(n, cycle))
	if err != nil {
		return err
	}
	got, err := b.alternate(ctx, contestant{"tbhist", func(ctx context.Context) (s sample, err error) {
		err = b.fed(ctx, nil, func(br *broker, _ *sender) error {
			return br.profiled(ctx, "udp", func() error {
				s, err = udpKept(ctx, br, datagrams, n)
				return err
			})
		})
		return s, err
	}})
	own := got["tbhist"]
	res.figure("sent", "datagrams/s", own["rate"])
	res.figure("dropped by the kernel, over all", "datagrams", own["drops"])
	res.figure("CPU time of the broker", "µs/update", own["cpu_us"])
	res.figure("heard by a subscriber / kept", "", own["heard"])
	res.cores(own)
	wanted, rmem := 0.99, rmemMax()
	if rmem >= udpBuffer {
		wanted = 0.999
	}
	res.ratio("kept / sent", own["kept"], ones(own["kept"]), wanted)
	res.ratio("heard by a subscriber / sent", own["heard_share"], ones(own["heard_share"]), wanted)
	res.note("%d datagrams/s for %s from %d sockets, some %d bytes each; rmem_max %d",
		udpRate, lasting(n, udpRate), udpSockets, len(bytes.Join(datagrams, nil))/len(datagrams), rmem)
	return err
}

// datagrams gives the first n updates in msgpack.
func (w *workload) datagrams(n int) ([][]byte, error) {
	var all [][]byte
	for _, payload := range w.payloads[:n] {
		var u struct {
			Type string             `json:"type" msgpack:"type"`
			NS   string             `json:"ns" msgpack:"ns"`
			Doc  string             `json:"documentation_url" msgpack:"documentation_url"`
			Data map[string]float64 `json:"data" msgpack:"data"`
			TS   float64            `json:"ts" msgpack:"ts"`
		}
		if err := json.Unmarshal(payload, &u); err != nil {
			return nil, err
		}
		d, err := msgpack.Marshal(&u)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// rmemMax is how large a receive buffer the system grants; 0 where it does
// not say.
func rmemMax() int {
	text, _ := os.ReadFile("/proc/sys/net/core/rmem_max") // see above
	v, _ := strconv.Atoi(strings.TrimSpace(string(text))) // the same
	return v
}

// udpKept sends n datagrams and counts what came of them.
func udpKept(ctx context.Context, br *broker, datagrams [][]byte, n int) (sample, error) {
	l, err := br.listen(ctx, fanBuffer, updatePrefix)
	if err != nil {
		return nil, err
	}
	var heard atomic.Int64
	var counting sync.WaitGroup
	counting.Go(func() { l.count(&heard) })
	defer counting.Wait()
	defer l.close()
	pid := br.cmd.Process.Pid
	before, own, start := cpuSeconds(pid), cpuSeconds(os.Getpid()), time.Now()
	if err := br.sendDatagrams(ctx, datagrams, n); err != nil {
		return nil, err
	}
	sending := time.Since(start)
	kept, drops, err := br.settleUDP(ctx, n)
	if err != nil {
		return nil, err
	}
	// What is kept is on its way to the subscriber.
	for last, since := int64(-1), time.Now(); heard.Load() < kept && time.Since(since) < hush; {
		if v := heard.Load(); v != last {
			last, since = v, time.Now()
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(start).Seconds()
	return sample{
		"rate": float64(n) / sending.Seconds(), "kept": float64(kept) / float64(n), "drops": drops,
		"heard": float64(heard.Load()) / float64(kept), "heard_share": float64(heard.Load()) / float64(n),
		"cpu_us": 1e6 * (cpuSeconds(pid) - before) / float64(n),
		"cores":  (cpuSeconds(pid) - before) / took, "harness_cores": (cpuSeconds(os.Getpid()) - own) / took,
	}, nil
}

// count counts updates until the connection ends.
func (l *listener) count(heard *atomic.Int64) {
	for l.fill() == nil {
		for m := l.next(); m != nil; m = l.next() {
			if bytes.HasPrefix(m, updatePrefix) {
				heard.Add(1)
			}
		}
	}
}

// sendDatagrams sends n of them at udpRate: a burst every millisecond, with
// one system call, from one socket after the other.
func (br *broker) sendDatagrams(ctx context.Context, datagrams [][]byte, n int) error {
	var conns []*ipv4.PacketConn
	for range udpSockets {
		c, err := net.Dial("udp4", br.addr(inputPort))
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }() // nothing waits in it
		conns = append(conns, ipv4.NewPacketConn(c.(net.PacketConn)))
	}
	messages := make([]ipv4.Message, udpBurst)
	for i := range messages {
		messages[i].Buffers = make([][]byte, 1)
	}
	return paced(ctx, n/udpBurst, time.Millisecond, func(i int) error {
		for k := range messages {
			messages[k].Buffers[0] = datagrams[(i*udpBurst+k)%len(datagrams)]
		}
		for rest := messages; len(rest) > 0; {
			sent, err := conns[i%udpSockets].WriteBatch(rest, 0)
			if err != nil {
				return err
			}
			rest = rest[sent:]
		}
		return nil
	})
}

// settleUDP waits until all n datagrams are accounted for, or nothing
// changes any more.
func (br *broker) settleUDP(ctx context.Context, n int) (kept int64, drops float64, err error) {
	before, since := -1.0, time.Now()
	for {
		v, err := br.metrics(ctx, `tbhist_updates_accepted_total{transport="udp"}`, "tbhist_udp_kernel_drops_total")
		if err != nil {
			return 0, 0, err
		}
		sum := v[0] + v[1]
		if sum != before {
			before, since = sum, time.Now()
		}
		if int(sum) >= n || time.Since(since) > hush {
			return int64(v[0]), v[1], nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return 0, 0, errors.Join(errors.New("waiting for datagrams"), ctx.Err())
		}
	}
}
