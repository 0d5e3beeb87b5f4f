package main

import (
	"context"
	"fmt"
	"strconv"
)

// plateauTurns is how often all rings turn.
const plateauTurns = 10

// plateau looks at the size of the file after all rings have turned ten
// times: few long ones, and many short ones. It does not depend on what else
// the machine does: one round is enough.
func plateau(ctx context.Context, b *bench, res *result) error {
	for _, p := range []struct{ things, ring int }{{1000, 1000}, {10_000, 100}} {
		ring := max(int(float64(p.ring)*b.scale), 1)
		name := fmt.Sprintf("%d Things × %d", p.things, ring)
		s, err := b.turned(ctx, p.things, ring)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(b.progress, "  %s %s\n", name, s)
		one := func(what, of string) []float64 {
			return res.figure(name+", "+what, "MiB", []float64{s[of]})
		}
		file := one("the file", "file")
		used := one("pages in use", "used")
		one("pages in use, fewest at the end of a turn", "used_least")
		one("live history", "live")
		res.ratioAtMost(name+": the file / pages in use", file, used, 0)
		res.share(name+": the file, of 1.5 × pages in use + 16 MiB", file, 1.5*used[0]+16)
	}
	res.note("%d turns of all rings behind the one that fills them", plateauTurns)
	return nil
}

// turned fills rings, turns them, and gives sizes in MiB.
func (b *bench) turned(ctx context.Context, things, ring int) (sample, error) {
	w, s := b.workload(things), sample{}
	turn := things * ring
	err := b.live(ctx, []string{"--ring", strconv.Itoa(ring), "--max-db", "8GiB"}, func(br *broker, snd *sender, sub *subscriber) error {
		for i := range plateauTurns + 1 {
			if _, err := pump(ctx, snd, sub, w, i*turn, (i+1)*turn); err != nil {
				return err
			}
			v, err := br.metrics(ctx, "tbhist_history_file_bytes", "tbhist_history_free_pages", "tbhist_history_live_bytes", "tbhist_history_updates")
			if err != nil {
				return err
			}
			if int(v[3]) != turn {
				return fmt.Errorf("history has %v updates, not %d", v[3], turn)
			}
			const mib = 1 << 20
			s["file"], s["used"], s["live"] = v[0]/mib, (v[0]-4096*v[1])/mib, v[2]/mib
			if least, ok := s["used_least"]; !ok || s["used"] < least {
				s["used_least"] = s["used"]
			}
			fmt.Fprintf(b.progress, "  turn %d %s\n", i, s)
		}
		return nil
	})
	return s, err
}
