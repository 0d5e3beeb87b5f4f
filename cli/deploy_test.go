package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	urfave "github.com/urfave/cli/v2"

	"tbhist/store/bolt"
)

// deployFile reads one of the files to start from.
func deployFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// unitLines gives the values of a key of a unit.
func unitLines(unit, key string) (values []string) {
	for _, m := range regexp.MustCompile(`(?m)^`+key+`=(.*)$`).FindAllStringSubmatch(unit, -1) {
		values = append(values, m[1])
	}
	return values
}

const (
	installed = "/usr/local/bin/tbhist"
	dropIn    = "tbhist.service.d/pi.conf"
)

var units = []string{"tbhist.service", "tbhist-backup.service", "tbhist-backup.timer"}

// systemd takes the units, and says nothing about them.
func TestDeployUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed here: only it knows what systemd takes")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	verify := func(t *testing.T, change func(name, unit string) string, names ...string) string {
		t.Helper()
		dir := t.TempDir()
		args := []string{"verify", "--man=no"}
		for _, name := range names {
			path := filepath.Join(dir, name)
			unit := strings.ReplaceAll(deployFile(t, name), installed, self)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(change(name, unit)), 0o600); err != nil {
				t.Fatal(err)
			}
			if name != dropIn {
				args = append(args, path)
			}
		}
		cmd := exec.Command(analyze, args...)
		cmd.Env = append(cleanEnv(), "SYSTEMD_LOG_LEVEL=warning")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%v: %s", err, out)
		}
		return string(out)
	}
	asIs := func(_, unit string) string { return unit }
	if out := verify(t, asIs, units...); out != "" {
		t.Errorf("of the units as they are: %s", out)
	}
	if out := verify(t, asIs, append([]string{dropIn}, units...)...); out != "" {
		t.Errorf("with the drop-in: %s", out)
	}
	for _, wrong := range append([]string{dropIn}, units...) {
		out := verify(t, func(name, unit string) string {
			if name == wrong {
				unit += "\nNoSuchKey=yes\n"
			}
			return unit
		}, append([]string{dropIn}, units...)...)
		if !strings.Contains(out, "NoSuchKey") {
			t.Errorf("a mistake in %s goes unseen, so that nothing is shown: %q", wrong, out)
		}
	}
}

// Every variable in the files is one that a command takes.
func TestDeployVariables(t *testing.T) {
	known := map[string]bool{"TBHIST_CONFIG": true}
	var note func([]*urfave.Command)
	note = func(commands []*urfave.Command) {
		for _, c := range commands {
			for _, f := range c.Flags {
				if d, ok := f.(urfave.DocGenerationFlag); ok {
					for _, name := range d.GetEnvVars() {
						known[name] = true
					}
				}
			}
			note(c.Subcommands)
		}
	}
	note((&program{}).app().Commands)
	for _, name := range append(units, dropIn, "Containerfile", "compose.yaml", "README.md") {
		for _, v := range regexp.MustCompile(`TBHIST_[A-Z_]+`).FindAllString(deployFile(t, name), -1) {
			if !known[v] {
				t.Errorf("%s sets %s, which nothing takes", name, v)
			}
		}
	}
}

// The broker takes the settings of the unit, of the drop-in and of Compose.
func TestDeploySettings(t *testing.T) {
	clearEnv(t)
	unit := deployFile(t, "tbhist.service")
	start := unitLines(unit, "ExecStart")
	if len(start) != 1 || !strings.HasPrefix(start[0], installed+" serve") {
		t.Fatalf("it starts %q", start)
	}
	args := strings.Fields(start[0])[2:]
	t.Setenv("STATE_DIRECTORY", "/var/lib/"+unitLines(unit, "StateDirectory")[0])
	s, err := settingsOf(t, args...)
	if err != nil || s.db != "/var/lib/tbhist/tbhist.db" {
		t.Errorf("with %q: %v, the history is %s", args, err, s.db)
	}
	for _, set := range unitLines(deployFile(t, dropIn), "Environment") {
		name, value, _ := strings.Cut(set, "=")
		t.Setenv(name, value)
	}
	if s, err = settingsOf(t, args...); err != nil || s.gather != time.Second || s.maxDB != 512<<20 {
		t.Errorf("on a Pi: %v, gather %v, %d bytes", err, s.gather, s.maxDB)
	}
	clearEnv(t)
	for _, m := range regexp.MustCompile(`(?m)^ +(?:# )?(TBHIST_[A-Z_]+): "(.*)"$`).FindAllStringSubmatch(deployFile(t, "compose.yaml"), -1) {
		t.Setenv(m[1], m[2])
	}
	if s, err = settingsOf(t); err != nil || len(s.rules) == 0 {
		t.Errorf("under Compose: %v", err)
	}
}

// The backup service makes a copy of a running broker's history that opens,
// and leaves the newest seven, and all that is not a backup.
func TestDeployBackup(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("systemd and its units are Linux's")
	}
	unit := deployFile(t, "tbhist-backup.service")
	script := func(key string) string {
		t.Helper()
		m := regexp.MustCompile(`^/bin/sh -c '(.*)'$`).FindStringSubmatch(unitLines(unit, key)[0])
		if m == nil {
			t.Fatalf("%s is no script", key)
		}
		return strings.ReplaceAll(m[1], "%%", "%")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "tbhist")
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	b := serve(t, t.TempDir())
	runs(t, "send", "shop.door", "1", "--broker", b.broker)
	runs(t, "send", "shop.door", "2", "--broker", b.broker)
	dir := t.TempDir()
	for i := range 9 {
		for _, name := range []string{fmt.Sprintf("tbhist-2025-01-%02d.db", i+1), fmt.Sprintf("other-%d", i)} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, key := range []string{"ExecStart", "ExecStartPost"} {
		cmd := exec.Command("/bin/sh", "-c", strings.ReplaceAll(script(key), installed, program))
		cmd.Env = append(cleanEnv(), "STATE_DIRECTORY="+dir, "TBHIST_BROKER="+b.broker)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", key, err, out)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	backups := slices.DeleteFunc(slices.Clone(left), func(p string) bool { return strings.Contains(p, "other-") })
	if len(left)-len(backups) != 9 || len(backups) != 7 || filepath.Base(backups[0]) != "tbhist-2025-01-04.db" {
		t.Fatalf("left are %q", left)
	}
	db, err := bolt.OpenReadOnly(backups[6], bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if state := db.State(); state.Updates != 2 {
		t.Errorf("%s holds %+v, want the two updates", backups[6], state)
	}
}
