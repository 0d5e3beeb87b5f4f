package adapt

import (
	"errors"
	"strings"
	"testing"

	"tbhist/client"
)

func TestCompact(t *testing.T) {
	for doc, want := range map[string]string{
		`{"a": 1, "b": [1, 2]}`:            `{"a":1,"b":[1,2]}`,
		" [1]\r\n":                         `[1]`,
		`"a,b:{"`:                          `"a,b:{"`,
		`"a\""`:                            `"a\""`,
		`5`:                                `5`,
		`{"a": NaN, "b": -Infinity}`:       `{"a":null,"b":null}`,
		`{"a": 1, "a": 2}`:                 `{"a":2}`,
		`{"n": 12345678901234567890123.0}`: `{"n":12345678901234567890123.0}`,
	} {
		if got, err := Compact([]byte(doc)); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", doc, got, err)
		}
	}
	for doc, want := range map[string]Reason{
		``: ReasonNotJSON, `topic`: ReasonNotJSON, `{`: ReasonNotJSON, `{}}`: ReasonNotJSON, `{} {}`: ReasonNotJSON,
		`1, "ns": "other"`: ReasonNotJSON, `1}`: ReasonNotJSON, `1], "x": [1`: ReasonNotJSON, `"a`: ReasonNotJSON, "\"\xff\"": ReasonNotJSON,
		`"a", "ns": "b"`: ReasonNotJSON,
		strings.Repeat("[", 600) + strings.Repeat("]", 600):   ReasonInvalid,
		strings.Repeat("1", 2000):                             ReasonInvalid,
		`"` + strings.Repeat("x", maxMessage) + `"`:           ReasonTooLarge,
		`{"type":"thing_update"}, "data": {"type":"other"`:    ReasonNotJSON,
		`{"a":1}` + "\x00":                                    ReasonNotJSON,
		`{"a":1}` + `,"documentation_url":` + `{"b":1}`:       ReasonNotJSON,
		`[1]` + strings.Repeat(" ", 10) + `[2]`:               ReasonNotJSON,
		`{"a": 'x'}`:                                          ReasonNotJSON,
		`{"a":"\ud800` + strings.Repeat("x", 10) + `"` + `}}`: ReasonNotJSON,
	} {
		if got, err := Compact([]byte(doc)); err == nil || err.Reason != want {
			t.Errorf("%.40q: %.40q, %v, want %v", doc, got, err, want)
		}
	}
}

func TestRules(t *testing.T) {
	five := 5.0
	for name, c := range map[string]struct {
		rules Rules
		doc   string
		want  client.Message
		skip  Reason
		bad   bool
	}{
		"nothing asked":       {doc: `5`, want: client.Message{Data: []byte(`5`)}},
		"whole object":        {rules: Rules{NSKey: "k"}, doc: `{"k":"a.b","v":1}`, want: client.Message{Name: "a.b", Data: []byte(`{"k":"a.b","v":1}`)}},
		"null name":           {rules: Rules{NSKey: "k"}, doc: `{"k":null}`, want: client.Message{Data: []byte(`{"k":null}`)}},
		"empty name":          {rules: Rules{NSKey: "k"}, doc: `{"k":""}`, want: client.Message{Data: []byte(`{"k":""}`)}},
		"time":                {rules: Rules{TSKey: "t"}, doc: `{"t":5}`, want: client.Message{TS: &five, Data: []byte(`{"t":5}`)}},
		"null time":           {rules: Rules{TSKey: "t"}, doc: `{"t":null}`, want: client.Message{Data: []byte(`{"t":null}`)}},
		"projections":         {rules: Rules{Projections: []string{"b", "a"}}, doc: `{"a":1,"c":3,"b":{"x":[]}}`, want: client.Message{Data: []byte(`{"b":{"x":[]},"a":1}`)}},
		"escaped key":         {rules: Rules{Projections: []string{"é"}}, doc: `{"\u00e9":1}`, want: client.Message{Data: []byte(`{"é":1}`)}},
		"text filter":         {rules: Rules{Filters: []Filter{{"m", "a:b"}}}, doc: `{"m":"a:b"}`, want: client.Message{Data: []byte(`{"m":"a:b"}`)}},
		"number filter":       {rules: Rules{Filters: []Filter{{"m", "1.50"}}}, doc: `{"m":1.50}`, want: client.Message{Data: []byte(`{"m":1.50}`)}},
		"boolean filter":      {rules: Rules{Filters: []Filter{{"m", "true"}, {"n", "1"}}}, doc: `{"m":true,"n":"1"}`, want: client.Message{Data: []byte(`{"m":true,"n":"1"}`)}},
		"filter, other":       {rules: Rules{Filters: []Filter{{"m", "1"}}}, doc: `{"m":2}`, bad: true, skip: ReasonFilter},
		"filter, none":        {rules: Rules{Filters: []Filter{{"m", "1"}}}, doc: `{}`, bad: true, skip: ReasonFilter},
		"filter, one of two":  {rules: Rules{Filters: []Filter{{"m", "1"}, {"n", "1"}}}, doc: `{"m":1,"n":2}`, bad: true, skip: ReasonFilter},
		"filter, an object":   {rules: Rules{Filters: []Filter{{"m", "{}"}}}, doc: `{"m":{}}`, bad: true, skip: ReasonFilter},
		"no object":           {rules: Rules{NSKey: "k"}, doc: `[1]`, bad: true, skip: ReasonNotObject},
		"nskey missing":       {rules: Rules{NSKey: "k"}, doc: `{}`, bad: true, skip: ReasonKey},
		"nskey no text":       {rules: Rules{NSKey: "k"}, doc: `{"k":5}`, bad: true, skip: ReasonNS},
		"nskey bad":           {rules: Rules{NSKey: "k"}, doc: `{"k":"Up"}`, bad: true, skip: ReasonNS},
		"tskey missing":       {rules: Rules{TSKey: "t"}, doc: `{}`, bad: true, skip: ReasonKey},
		"tskey text":          {rules: Rules{TSKey: "t"}, doc: `{"t":"1.5"}`, bad: true, skip: ReasonTS},
		"tskey milliseconds":  {rules: Rules{TSKey: "t"}, doc: `{"t":1423351104500}`, bad: true, skip: ReasonTS},
		"projection missing":  {rules: Rules{Projections: []string{"a", "b"}}, doc: `{"a":1}`, bad: true, skip: ReasonKey},
		"filter comes before": {rules: Rules{Filters: []Filter{{"m", "1"}}, NSKey: "k"}, doc: `{"m":2}`, bad: true, skip: ReasonFilter},
	} {
		compact, err := Compact([]byte(c.doc))
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.rules.Take(compact)
		switch {
		case c.bad:
			if err == nil || err.Reason != c.skip {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case got.Name != c.want.Name || string(got.Data) != string(c.want.Data) || (got.TS == nil) != (c.want.TS == nil) || got.TS != nil && *got.TS != *c.want.TS:
			t.Errorf("%s: %s %s", name, got.Name, got.Data)
		}
	}
}

func TestParseFilter(t *testing.T) {
	if f, err := ParseFilter("a:b:c"); err != nil || f != (Filter{"a", "b:c"}) {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := ParseFilter("a"); err == nil {
		t.Error("no colon is needed")
	}
}

func TestReasonCodes(t *testing.T) {
	seen := map[string]bool{}
	for _, code := range ReasonCodes() {
		if code == "" || seen[code] {
			t.Errorf("code %q", code)
		}
		seen[code] = true
	}
	var s error = &Skip{Reason: ReasonKey, Detail: "x"}
	if target := (*Skip)(nil); !errors.As(s, &target) || s.Error() != "x" {
		t.Errorf("%v", s)
	}
}
