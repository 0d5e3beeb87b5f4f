package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tests that docs/RELIABILITY.md names as guards are there.
func TestReliabilityNamesTests(t *testing.T) {
	document, err := os.ReadFile("../docs/RELIABILITY.md")
	if err != nil {
		t.Fatal(err)
	}
	var (
		guards = regexp.MustCompile("`([a-z/0-9]+)`: ((?:Test[^`;|]*)+)")
		name   = regexp.MustCompile(`\bTest\w+`)
	)
	named := 0
	for _, m := range guards.FindAllStringSubmatch(string(document), -1) {
		files, err := filepath.Glob(filepath.Join("..", m[1], "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s has no tests: %v", m[1], err)
			continue
		}
		var code strings.Builder
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(b)
		}
		for _, test := range name.FindAllString(m[2], -1) {
			named++
			if !strings.Contains(code.String(), "\nfunc "+test+"(") {
				t.Errorf("%s has no %s", m[1], test)
			}
		}
	}
	if named < 50 {
		t.Errorf("%d tests are named", named)
	}
}
