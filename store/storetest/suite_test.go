package storetest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The model passes as an engine.
func TestModel(t *testing.T) {
	Run(t, func(t *testing.T, o Options) Engine { return openMemory(t, o, "") })
}

// defectVariable names the defect that a child process is to have.
const defectVariable = "STORETEST_DEFECT"

// An engine with any of the defects fails. Each is tried in a process of its
// own, since what fails is the test itself.
func TestDefects(t *testing.T) {
	if defect := os.Getenv(defectVariable); defect != "" {
		Run(t, func(t *testing.T, o Options) Engine { return openMemory(t, o, defect) })
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for defect, test := range defects {
		t.Run(defect, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestDefects$/^"+test+"$")
			cmd.Env = append(os.Environ(), defectVariable+"="+defect, seedVariable+"=1")
			out, err := cmd.CombinedOutput()
			switch s := string(out); {
			case err == nil:
				t.Errorf("%s passes all the same:\n%s", test, s)
			case !strings.Contains(s, "--- FAIL: TestDefects/"+test) || strings.Contains(s, "panic:"):
				t.Errorf("%s does not fail as it should: %v\n%s", test, err, s)
			default:
				t.Logf("found:\n%s", s)
			}
		})
	}
}
