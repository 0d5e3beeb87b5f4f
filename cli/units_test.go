package cli

import (
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"10MiB": 10 << 20, "512KiB": 512 << 10, "2GiB": 2 << 30, "1MB": 1e6, "1TiB": 1 << 40,
		"4096": 4096, "4096B": 4096, "0": 0, "1.5GiB": 3 << 29, "10 MiB": 10 << 20, "10mib": 10 << 20,
		"1k": 1024, "2M": 2 << 20, "1G": 1 << 30, "3kb": 3000, "1gb": 1e9, "9223372036854775807": 1<<63 - 1,
	} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "MiB", "x", "-1", "+1", "1e3", "10 MiB x", "1..5M", "0x10", "inf", "nan", "1,000", "10XiB",
		"9223372036854775808", "9999999999TiB", "1.5.5", ".",
	} {
		if got, err := parseSize(s); err == nil {
			t.Errorf("parseSize(%q) = %d", s, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "15m": 15 * time.Minute, "1h": time.Hour, "2d": 48 * time.Hour, "7d": 168 * time.Hour,
		"2w": 336 * time.Hour, "1h30m": 90 * time.Minute, "1d12h": 36 * time.Hour, "500ms": 500 * time.Millisecond,
		"0": 0, "0s": 0, "1.5h": 90 * time.Minute, "10us": 10 * time.Microsecond, "10µs": 10 * time.Microsecond, "5ns": 5,
	} {
		if got, err := parseDuration(s); err != nil || got != want {
			t.Errorf("parseDuration(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "5", "s", "1x", "-1h", "1h30", "1 h", "1h 30m", "1e3s", "1000000w", "h1", "..s", "1..2s"} {
		if got, err := parseDuration(s); err == nil {
			t.Errorf("parseDuration(%q) = %v", s, got)
		}
	}
}

func TestFormat(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0s", 1240 * time.Millisecond: "1.2s", 59 * time.Second: "59s", 61 * time.Second: "1m01s",
		2*time.Hour + 3*time.Minute + 59*time.Second: "2h03m", 50 * time.Hour: "2d02h", -90 * time.Second: "-1m30s",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%v) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 1023: "1023", 1024: "1KiB", 1536: "1.5KiB", 16 << 20: "16MiB", 2 << 30: "2GiB"} {
		if got := formatSize(n); got != want {
			t.Errorf("formatSize(%d) = %q, want %q", n, got, want)
		}
	}
}
