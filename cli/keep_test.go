package cli

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"tbhist/store"
)

func TestParseKeep(t *testing.T) {
	day := 24 * time.Hour
	for s, want := range map[string]store.Rule{
		"shop=1000,7d,10MiB":         {Prefix: "shop", Limit: store.Limit{Count: 1000, Age: 7 * day, Bytes: 10 << 20}},
		"shop=1000":                  {Prefix: "shop", Limit: store.Limit{Count: 1000}},
		"shop=,7d":                   {Prefix: "shop", Limit: store.Limit{Age: 7 * day}},
		"shop=,,1MB":                 {Prefix: "shop", Limit: store.Limit{Bytes: 1e6}},
		"=,7d":                       {Limit: store.Limit{Age: 7 * day}},
		`""=5`:                       {Limit: store.Limit{Count: 5}},
		"a.b-c=5,,":                  {Prefix: "a.b-c", Limit: store.Limit{Count: 5}},
		"shop=unlimited,7d,4096":     {Prefix: "shop", Limit: store.Limit{Count: store.Unlimited, Age: 7 * day, Bytes: 4096}},
		"shop=1,unlimited,unlimited": {Prefix: "shop", Limit: store.Limit{Count: 1, Age: store.Unlimited, Bytes: store.Unlimited}},
	} {
		if got, err := parseKeep(s); err != nil || got != want {
			t.Errorf("parseKeep(%q) = %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "shop", "1000", "shop=", "shop=,,", "shop=0", "shop=-1", "shop=x", "shop=1,0s", "shop=1,7", "shop=1,1h,0", "shop=1,1h,1MiB,",
		"Shop=1", "a..b=1", "shop=1;7d",
	} {
		if got, err := parseKeep(s); err == nil {
			t.Errorf("parseKeep(%q) = %+v", s, got)
		}
	}
}

func TestRingRules(t *testing.T) {
	for _, c := range []struct {
		ring int64
		set  bool
		keep []string
		want []store.Rule
	}{
		{100, false, nil, []store.Rule{{Limit: store.Limit{Count: 100}}}},
		{100, true, []string{"=,7d"}, []store.Rule{{Limit: store.Limit{Count: 100, Age: 168 * time.Hour}}}},
		{100, false, []string{"=5"}, []store.Rule{{Limit: store.Limit{Count: 5}}}},
		{100, false, []string{"a=1 b=2", "c=3"}, []store.Rule{
			{Limit: store.Limit{Count: 100}},
			{Prefix: "a", Limit: store.Limit{Count: 1}},
			{Prefix: "b", Limit: store.Limit{Count: 2}},
			{Prefix: "c", Limit: store.Limit{Count: 3}},
		}},
	} {
		got, err := ringRules(c.ring, c.set, c.keep)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("ringRules(%d, %v, %q) = %+v, %v; want %+v", c.ring, c.set, c.keep, got, err, c.want)
		}
	}
	for _, keep := range [][]string{{"a=1", "a=,7d"}, {"=5", "=,7d"}, {"=,7d", "=,8d"}, {"a"}, {"=6 b=x"}} {
		_, err := ringRules(100, false, keep)
		if usage := (*usageError)(nil); !errors.As(err, &usage) {
			t.Errorf("ringRules of %q: %v, want a usage error", keep, err)
		}
	}
	if _, err := ringRules(100, true, []string{"=5"}); err == nil {
		t.Error("two counts for everything are taken")
	}
}
