package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"tbhist/thing"
)

// canon gives a JSON value in a form in which equal values are equal text:
// 1, 1.0 and true differ, 1.0 and 1e0 do not; members are sorted.
func canon(t testing.TB, doc []byte) string {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v: %.200q", err, doc)
	}
	if dec.More() {
		t.Fatalf("two documents: %.200q", doc)
	}
	b, err := json.Marshal(canonNumbers(t, v))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func canonNumbers(t testing.TB, v any) any {
	switch v := v.(type) {
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			f, err := v.Float64()
			if err != nil {
				t.Fatalf("number %v: %v", v, err)
			}
			return fmt.Sprintf("float %v", f)
		}
		n, ok := new(big.Int).SetString(v.String(), 10)
		if !ok {
			t.Fatalf("number %v", v)
		}
		return "int " + n.String()
	case string:
		return "text " + v
	case []any:
		for i := range v {
			v[i] = canonNumbers(t, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = canonNumbers(t, v[k])
		}
	}
	return v
}

// checkLine fails unless line is one line of JSON that the strictest parser
// takes: UTF-8, no name twice, no lone surrogates.
func checkLine(t testing.TB, line []byte) {
	t.Helper()
	if bytes.ContainsAny(line, "\n\r") {
		t.Fatalf("more than one line: %.300q", line)
	}
	if !jsontext.Value(line).IsValid() {
		t.Fatalf("not valid for every parser: %.300q", line)
	}
}

// updateOf is what would be published of a draft.
func updateOf(d *Draft) *thing.Update {
	return &thing.Update{
		Name: thing.Name(d.NS), Data: d.Data, Doc: d.Doc, TS: d.TS,
		Received: 1423351104_945123, Seq: 7, ThingSeq: 3,
	}
}

// reasonOf gives the reason of a refusal.
func reasonOf(t testing.TB, err error) thing.Reason {
	t.Helper()
	var r *thing.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("not a refusal: %v", err)
	}
	if r.Taken == "" {
		t.Errorf("%v says nothing of what is taken", r.Reason)
	}
	return r.Reason
}
