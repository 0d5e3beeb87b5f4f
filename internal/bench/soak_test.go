package main

import (
	"math"
	"testing"
)

func TestSlope(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{7}, 0},
		{[]float64{5, 5, 5, 5}, 0},
		{[]float64{1, 3, 5, 7}, 2},
		{[]float64{10, 9, 9, 8}, -0.6},
		{[]float64{1, 9, 1, 9, 1}, 0},
	} {
		if got := slope(c.values); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("the slope of %v is %v, not %v", c.values, got, c.want)
		}
	}
}
