package main

import (
	"context"
	"fmt"
	"slices"
)

// sample is what one contestant gave in one round, by name.
type sample map[string]float64

// contestant is one way of doing the work of a row.
type contestant struct {
	name string
	run  func(ctx context.Context) (sample, error)
}

// samples are what the rounds gave, by contestant and name.
type samples map[string]map[string][]float64

// alternate lets the contestants take turns, every other round in reverse
// order: what else the machine does then meets all of them alike.
func (b *bench) alternate(ctx context.Context, contestants ...contestant) (samples, error) {
	all := samples{}
	for _, c := range contestants {
		all[c.name] = map[string][]float64{}
	}
	for i := range b.rounds {
		turn := slices.Clone(contestants)
		if i%2 == 1 {
			slices.Reverse(turn)
		}
		for _, c := range turn {
			if err := ctx.Err(); err != nil {
				return all, err
			}
			s, err := c.run(ctx)
			if err != nil {
				return all, fmt.Errorf("%s: %w", c.name, err)
			}
			fmt.Fprintf(b.progress, "  %d/%d %-28s %s\n", i+1, b.rounds, c.name, s)
			for name, v := range s {
				all[c.name][name] = append(all[c.name][name], v)
			}
		}
	}
	return all, nil
}

// String writes the sample for the eye.
func (s sample) String() string {
	text := ""
	names := make([]string, 0, len(s))
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		text += fmt.Sprintf(" %s=%s", name, short(s[name]))
	}
	return text
}

// spread gives the least, the median and the most of values, of which there
// is at least one.
func spread(values []float64) (least, median, most float64) {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return v[0], (v[(n-1)/2] + v[n/2]) / 2, v[n-1]
}

// quantile gives the value below which a share q of the sorted values lies.
func quantile(sorted []float64, q float64) float64 {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
