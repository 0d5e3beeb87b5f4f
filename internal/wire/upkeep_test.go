package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"tbhist/thing"
)

// What is written is read back as it was, and nothing is null.
func TestStatsJSON(t *testing.T) {
	of := thing.Name("shop.a")
	for _, s := range []Stats{
		{Prefixes: []PrefixStats{}},
		{
			Epoch: "e1", Head: 1 << 60, At: 1_795_377_831_533_157, NS: "shop", Depth: 2, FileBytes: 1, MaxBytes: 2,
			Total:    PrefixStats{NS: "shop", Things: 1, Updates: 2, Bytes: 3, Oldest: -1, Newest: 1, Reach: Span(1500 * time.Millisecond), ReachOf: &of},
			Prefixes: []PrefixStats{{NS: "shop.a", Oldest: 5e6}},
		},
	} {
		b, err := json.Marshal(&s)
		if err != nil {
			t.Fatal(err)
		}
		var got Stats
		if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%s\nis read as %+v, %v", b, got, err)
		}
	}
	b, err := json.Marshal(PrefixStats{Newest: 1_500_000, Reach: Span(time.Minute)})
	if want := `"oldest":null,"newest":1.5,"reach":60,"reach_of":null}`; err != nil || !strings.HasSuffix(string(b), want) {
		t.Errorf("%s, %v, want …%s", b, err, want)
	}
	for _, bad := range []string{`{"oldest":"x"}`, `{"oldest":{}}`, `{"reach":"x"}`} {
		if err := json.Unmarshal([]byte(bad), &PrefixStats{}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	var long PrefixStats
	if err := json.Unmarshal([]byte(`{"reach":1e300}`), &long); err != nil || long.Reach <= 0 {
		t.Errorf("a long reach is %v, %v", long.Reach, err)
	}
}

func TestForgetRequest(t *testing.T) {
	for _, want := range []ForgetRequest{{}, {NS: "shop.a", Tree: true}, {NS: "a", DryRun: true}} {
		b, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseForgetRequest(b); err != nil || got != want {
			t.Errorf("%s is read as %+v, %v", b, got, err)
		}
	}
	// What is not there does not mean everything.
	for _, bad := range []string{
		``, `{}`, `{"tree":true}`, `{"ns":null}`, `{"ns":"A"}`, `{"ns":"a","tree":"no"}`, `{"ns":"a","all":true}`, `{"ns":"a"}{}`,
		`[]`, `"a"`, `{"ns":"a","ns":"b"}`, `{"NS":"a"}`, `{"ns":"a","Tree":true}`, `{"ns":"a"`, "{\"ns\":\"a\xff\"}",
	} {
		switch r, err := ParseForgetRequest([]byte(bad)); {
		case err == nil:
			t.Errorf("%s is taken as %+v", bad, r)
		case strings.Contains(err.Error(), "json:") || strings.Contains(err.Error(), "jsontext"):
			t.Errorf("of %s it is said: %v", bad, err)
		}
	}
}
