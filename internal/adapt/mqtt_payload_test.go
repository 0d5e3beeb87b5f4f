package adapt

import (
	"strings"
	"testing"
)

func TestPayloadData(t *testing.T) {
	for payload, want := range map[string]string{
		`{"a": 1}`:                 `{"a":1}`,
		`21.50`:                    `21.50`,
		" 21 \r\n":                 `21`,
		`"x"`:                      `"x"`,
		`true`:                     `true`,
		`null`:                     `null`,
		`+21.5`:                    `21.5`,
		`.5`:                       `0.5`,
		`-.5e3`:                    `-0.5e3`,
		`5.`:                       `5`,
		`007.5`:                    `7.5`,
		`-00.5`:                    `-0.5`,
		`+0`:                       `0`,
		`007`:                      `"007"`,
		`0x1F`:                     `"0x1F"`,
		`1_000`:                    `"1_000"`,
		`1,5`:                      `"1,5"`,
		`.`:                        `"."`,
		`+`:                        `"+"`,
		`e5`:                       `"e5"`,
		`21.5 °C`:                  `"21.5 °C"`,
		`nan`:                      `null`,
		`NaN`:                      `null`,
		`-inf`:                     `null`,
		`Infinity`:                 `null`,
		`+1e999`:                   `null`,
		`1e400`:                    `null`,
		`{"t": NaN}`:               `{"t":null}`,
		`ON`:                       `"ON"`,
		`{"cut": `:                 `"{\"cut\": "`,
		`12:30`:                    `"12:30"`,
		"<b>\x00":                  `"<b>\u0000"`,
		"\xff\xfe":                 `"//4="`,
		"{\"a\": \"\xff\"}":        `"eyJhIjogIv8ifQ=="`,
		`1, "ns": "other"`:         `"1, \"ns\": \"other\""`,
		strings.Repeat("1", 1000):  strings.Repeat("1", 1000),
		"2024-03-01T12:00:00+0100": `"2024-03-01T12:00:00+0100"`,
	} {
		if got, skipped := payloadData([]byte(payload)); skipped != nil || string(got) != want {
			t.Errorf("%.40q: %.40s, %v, want %.40s", payload, got, skipped, want)
		}
	}
	for payload, want := range map[string]Reason{
		"": ReasonEmpty, strings.Repeat("1", 2000): ReasonInvalid, strings.Repeat("x", maxMessage+1): ReasonTooLarge,
	} {
		if got, skipped := payloadData([]byte(payload)); skipped == nil || skipped.Reason != want {
			t.Errorf("%.40q: %.40s, %v, want %v", payload, got, skipped, want)
		}
	}
}
