package client

import (
	"cmp"
	"slices"
)

// order puts records into the order to be tried (RFC 2782): by priority; and
// among equals at random, where the chance to be next is as the weight. intn
// gives a random number of 0…n-1.
func order(all []Record, intn func(n int) int) {
	// Records without a weight have no other chance to take turns.
	for i := range all {
		j := i + intn(len(all)-i)
		all[i], all[j] = all[j], all[i]
	}
	slices.SortStableFunc(all, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(min(a.Weight, 1), min(b.Weight, 1)))
	})
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].Priority == all[0].Priority {
			n++
		}
		orderEqual(all[:n], intn)
		all = all[n:]
	}
}

// orderEqual orders records of one priority; those without a weight come
// first, so that they are chosen at 0 only, as seldom as that is.
func orderEqual(group []Record, intn func(n int) int) {
	sum := 0
	for _, r := range group {
		sum += int(r.Weight)
	}
	for ; len(group) > 1; group = group[1:] {
		n, i := intn(sum+1), 0
		for upTo := int(group[0].Weight); upTo < n; upTo += int(group[i].Weight) {
			i++
		}
		chosen := group[i]
		copy(group[1:i+1], group[:i])
		group[0] = chosen
		sum -= int(chosen.Weight)
	}
}
