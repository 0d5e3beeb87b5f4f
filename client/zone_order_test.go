package client

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestOrderPriority(t *testing.T) {
	for seed := range uint64(50) {
		all := []Record{{Priority: 20, Weight: 9}, {Priority: 5}, {Priority: 10, Weight: 1}, {Priority: 5, Weight: 7}, {Priority: 10}}
		order(all, rand.New(rand.NewPCG(seed, 1)).IntN)
		var got []uint16
		for _, r := range all {
			got = append(got, r.Priority)
		}
		if !slices.Equal(got, []uint16{5, 5, 10, 10, 20}) {
			t.Errorf("seed %d: priorities %v", seed, got)
		}
	}
}

// Who is first, and who second, is as the weights.
func TestOrderWeight(t *testing.T) {
	const rounds = 20_000
	intn := rand.New(rand.NewPCG(1, 2)).IntN
	first, second := map[uint16]int{}, map[uint16]int{}
	for range rounds {
		all := []Record{{Weight: 60}, {Weight: 10}, {Weight: 30}}
		order(all, intn)
		first[all[0].Weight]++
		if all[0].Weight == 60 {
			second[all[1].Weight]++
		}
	}
	for weight, share := range map[uint16]float64{60: 0.6, 30: 0.3, 10: 0.1} {
		if got := float64(first[weight]) / rounds; got < share-0.02 || got > share+0.02 {
			t.Errorf("weight %d is first in %.3f of the rounds, want %.2f", weight, got, share)
		}
	}
	if got := float64(second[30]) / float64(second[30]+second[10]); got < 0.72 || got > 0.78 {
		t.Errorf("behind 60, 30 is before 10 in %.3f of the rounds, want 0.75", got)
	}
}

// Records without a weight take turns, and give way to those with one.
func TestOrderNoWeight(t *testing.T) {
	const rounds = 3000
	intn := rand.New(rand.NewPCG(3, 4)).IntN
	ports := map[int]int{}
	for range rounds {
		all := []Record{{Port: 1}, {Port: 2}, {Port: 3}}
		order(all, intn)
		ports[all[0].Port]++
	}
	for port := 1; port <= 3; port++ {
		if n := ports[port]; n < rounds/4 || n > rounds/2 {
			t.Errorf("the record of port %d is first in %d of %d rounds", port, n, rounds)
		}
	}
	light := 0
	for range rounds {
		all := []Record{{}, {Weight: 99}}
		order(all, intn)
		if all[0].Weight == 0 {
			light++
		}
	}
	// The chance is 1 in 100 (RFC 2782 counts 0…99).
	if light == 0 || light > rounds/25 {
		t.Errorf("the record without a weight is first in %d of %d rounds", light, rounds)
	}
}

// None is lost, whatever the random numbers.
func FuzzOrder(f *testing.F) {
	f.Add(uint64(1), []byte{1, 0, 1, 9, 2, 255, 1, 0})
	f.Fuzz(func(t *testing.T, seed uint64, raw []byte) {
		var all []Record
		for i := 0; i+1 < len(raw); i += 2 {
			all = append(all, Record{Priority: uint16(raw[i]), Weight: uint16(raw[i+1]) << 8, Port: i})
		}
		want := map[Record]bool{}
		for _, r := range all {
			want[r] = true
		}
		order(all, rand.New(rand.NewPCG(seed, 0)).IntN)
		for i, r := range all {
			if !want[r] {
				t.Fatalf("%v is there twice, or was not given", r)
			}
			delete(want, r)
			if i > 0 && all[i-1].Priority > r.Priority {
				t.Fatalf("%v comes before %v", all[i-1], r)
			}
		}
	})
}
