package cli

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// TestMain lets the test binary be the program, too: processes whose name is
// tbhist run Main.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"tbhist": Main})
}

// leakChecked is goleak.VerifyTestMain for testscript.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}
