package cli

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	urfave "github.com/urfave/cli/v2"
	"gopkg.in/yaml.v3"

	"tbhist/store"
)

// settingsOf reads the settings that a command line of serve gives.
func settingsOf(t *testing.T, args ...string) (settings, error) {
	t.Helper()
	p := &program{stdout: io.Discard, stderr: t.Output(), now: time.Now}
	app := p.app()
	var s settings
	findCommand(app.Commands, "serve").Action = func(c *urfave.Context) (err error) {
		s, err = readSettings(c)
		return err
	}
	line, err := permute(app.Commands, append([]string{"serve"}, args...))
	if err == nil {
		err = app.Run(append([]string{"tbhist"}, line...))
	}
	return s, err
}

// unsetenv takes a variable away for the rest of a test.
func unsetenv(t *testing.T, name string) {
	t.Helper()
	t.Setenv(name, "") // brings it back
	if err := os.Unsetenv(name); err != nil {
		t.Fatal(err)
	}
}

// clearEnv takes TBHIST_… out of the environment of a test.
func clearEnv(t *testing.T) {
	t.Helper()
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "TBHIST_") {
			unsetenv(t, name)
		}
	}
}

func TestDefaultSettings(t *testing.T) {
	clearEnv(t)
	t.Setenv("STATE_DIRECTORY", "")
	s, err := settingsOf(t)
	if err != nil {
		t.Fatal(err)
	}
	if s.host != "" || s.port != 7954 || s.db != "tbhist.db" || s.maxThings != 10000 || s.maxUpdate != 1<<20 ||
		s.maxLag != time.Minute || s.snapshotInterval != 15*time.Second || s.gather != 0 || s.snapshotExpire != 0 ||
		s.writeDeadline != 10*time.Second || s.metricsThings != 5000 || s.logLevel != slog.LevelInfo || s.logJSON {
		t.Errorf("%+v", s)
	}
	if len(s.rules) != 1 || s.rules[0].Limit != (store.Limit{Count: 100000}) {
		t.Errorf("rules %+v", s.rules)
	}
	if s.allowInput.String() != "local" || s.allowOutput.String() != "local" {
		t.Errorf("allowed are %s and %s", s.allowInput, s.allowOutput)
	}
}

// The sample file is loaded: it has every flag, and with their defaults.
func TestExampleConfig(t *testing.T) {
	clearEnv(t)
	const path = "../docs/tbhist.example.yaml"
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]any{}
	if err := yaml.Unmarshal(raw, &keys); err != nil {
		t.Fatal(err)
	}
	_, names := configFlags(serveFlags())
	for _, name := range names {
		if _, ok := keys[name]; !ok {
			t.Errorf("the sample file lacks %s", name)
		}
	}
	got, err := settingsOf(t, "--config", path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := settingsOf(t, "--keep", "shop=1000,7d,10MiB", "--keep", "shop.camera=,,500MiB")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.rules, want.rules) {
		t.Errorf("rules %+v, want %+v", got.rules, want.rules)
	}
	if got.port != want.port || got.maxDB != want.maxDB || got.maxUpdate != want.maxUpdate || got.maxLag != want.maxLag ||
		got.snapshotInterval != want.snapshotInterval || got.maxThings != want.maxThings || got.metricsThings != want.metricsThings {
		t.Errorf("the sample file gives %+v, the defaults are %+v", got, want)
	}
}

// A flag counts more than the environment, that more than the file, that
// more than the default.
func TestPrecedence(t *testing.T) {
	clearEnv(t)
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("ring: 3\nkeep: [a=3, 'b=3,1d']\ngather: 3s\nlisten: 127.0.0.1:3000\nlog-level:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TBHIST_CONFIG", file)
	t.Setenv("TBHIST_GATHER", "2s")
	t.Setenv("TBHIST_KEEP", "a=2,1d,2MiB c=2")
	s, err := settingsOf(t, "--gather", "1s")
	if err != nil {
		t.Fatal(err)
	}
	if s.gather != time.Second || s.port != 3000 || s.host != "127.0.0.1" || s.rules[0].Limit.Count != 3 {
		t.Errorf("%+v", s)
	}
	wantKeep := []store.Rule{
		{Prefix: "a", Limit: store.Limit{Count: 2, Age: 24 * time.Hour, Bytes: 2 << 20}},
		{Prefix: "c", Limit: store.Limit{Count: 2}},
	}
	if !slices.Equal(s.rules[1:], wantKeep) {
		t.Errorf("of the environment's limits %+v arrive, want %+v", s.rules[1:], wantKeep)
	}
	if s, err = settingsOf(t, "--keep", "d=1,,1MiB"); err != nil || s.gather != 2*time.Second || len(s.rules) != 2 || s.rules[1].Prefix != "d" {
		t.Errorf("%+v, %v", s, err)
	}
	unsetenv(t, "TBHIST_KEEP")
	if s, err = settingsOf(t); err != nil || len(s.rules) != 3 || s.rules[2].Limit.Age != 24*time.Hour {
		t.Errorf("of the file's limits %+v arrive, %v", s.rules, err)
	}
	t.Setenv("TBHIST_GATHER", "")
	if s, err = settingsOf(t); err != nil || s.gather != 0 {
		t.Errorf("an empty variable gives %v, %v", s.gather, err)
	}
}

func TestConfigRefuses(t *testing.T) {
	clearEnv(t)
	for content, want := range map[string]string{
		"max_db: 1GiB\nrnig: 5\n":  `line 1: there is no flag "max_db"; did you mean max-db?; line 2: there is no flag "rnig"; did you mean ring?`,
		"ring: 5\nring: 6\n":       `line 2: "ring" is there twice`,
		"ring: [5]\n":              "line 1: ring: taken is one plain value",
		"ring: {a: 5}\n":           "line 1: ring: taken is one plain value",
		"keep: {a: 5}\n":           "line 1: keep: taken is a value or a list of values",
		"keep: [[a]]\n":            "line 1: keep: taken is a list of plain values",
		"- ring\n":                 "line 1: taken is a line",
		"ring: x\n":                `--ring: "x" is not a number`,
		"ring: \"a\n":              "yaml",
		"config: other\n":          `there is no flag "config"`,
		"listen: 1.2.3.4:x\n":      `--listen: the main port "x" is not in 0…65532`,
		"allow-input: [nowhere]\n": `--allow-input: "nowhere" is not a network`,
	} {
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := settingsOf(t, "--config", file)
		var usage *usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v; want %q", content, err, want)
		}
	}
	if _, err := settingsOf(t, "--config", filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestSettingsRefuse(t *testing.T) {
	clearEnv(t)
	for line, want := range map[string]string{
		"--ring 0":                 "--ring",
		"--max-db 1MiB":            "--max-db: 1MiB is too small; the least is 64MiB",
		"--gather 5":               "--gather",
		"--gather -1s":             "--gather",
		"--snapshot-interval 0":    "--snapshot-interval: 0 is too short",
		"--max-things 0":           "--max-things",
		"--input-rate -1":          "--input-rate",
		"--max-update 1GiB":        "--max-update: 1GiB is too much",
		"--max-update 9EiB":        "--max-update",
		"--listen 1.2.3.4:65533":   "--listen",
		"--listen a:b:c":           "--listen",
		"--log-format xml":         "--log-format",
		"--log-level loud":         "--log-level",
		"--allow-output 1.2.3.4/x": "--allow-output",
		"--keep shop":              "--keep",
	} {
		_, err := settingsOf(t, strings.Fields(line)...)
		var usage *usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v; want a usage error with %q", line, err, want)
		}
	}
}

func TestParseListen(t *testing.T) {
	for s, want := range map[string]struct {
		host string
		port int
	}{
		":7954": {"", 7954}, ":0": {"", 0}, "127.0.0.1:80": {"127.0.0.1", 80}, "[::1]:7954": {"::1", 7954},
		"lab.example": {"lab.example", 7954}, "8954": {"", 8954}, "localhost:0": {"localhost", 0},
	} {
		host, port, err := parseListen(s)
		if err != nil || host != want.host || port != want.port {
			t.Errorf("parseListen(%q) = %q, %d, %v", s, host, port, err)
		}
	}
}

func TestDefaultDB(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/var/lib/tbhist:/var/lib/other")
	if got := defaultDB(); got != "/var/lib/tbhist/tbhist.db" {
		t.Errorf("with a state directory: %s", got)
	}
	unsetenv(t, "STATE_DIRECTORY")
	if got := defaultDB(); got != "tbhist.db" {
		t.Errorf("without: %s", got)
	}
}
