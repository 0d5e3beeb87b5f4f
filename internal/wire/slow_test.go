package wire

import (
	"strings"
	"testing"
	"time"
)

// The worst that a large message can do, in time: no input costs more
// than its bytes some few times over.
func TestWorstInputs(t *testing.T) {
	const size = 1 << 18
	fill := func(s string) string { return strings.Repeat(s, (size-200)/len(s)) }
	deep := func(n int, open, inner, end string) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
	}
	for name, frame := range map[string]string{
		"double names, deep":     doc(deep(500, `{"a":1,"a":`, `"`+strings.Repeat("x", size-20_000)+`"`, "}")),
		"double names, all last": doc(deep(500, `{"a":`, `"`+strings.Repeat("x", size-20_000)+`"`, `,"b":1,"b":2}`)),
		"double names, many":     doc("{" + fill(`"a":1,`) + `"a":1}`),
		"lone surrogates":        doc(`"` + fill(`\ud800`) + `"`),
		"words":                  doc("[" + fill("NaN,") + "1]"),
		"overflowing numbers":    doc("[" + fill("1e999,") + "1]"),
		"long numbers":           doc("[" + fill(strings.Repeat("9", 996)+".5,") + "1]"),
		"brackets":               doc("[" + fill("[],") + "1]"),
		"backslashes":            doc(`"` + fill(`\\`) + `"`),
		"white space":            fill(" ") + "1",
		"one long name":          `{"` + fill("x") + `": 1}`,
		"escaped names":          doc("{" + fill(`"\u0061":1,`) + `"a":1}`),
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDecoder(Limits{})
			var got Draft
			from := time.Now()
			_, err := d.JSON(nil, []byte(frame), &got)
			t.Logf("%d bytes in %v: %v", len(frame), time.Since(from), err)
			if since := time.Since(from); since > 30*time.Second {
				t.Errorf("took %v", since)
			}
			if err == nil {
				checkDraft(t, &got)
			}
			if cap(d.scratch) > keepScratch || cap(d.mended.doc) > keepScratch {
				t.Error("scratch memory is kept")
			}
		})
	}
}
