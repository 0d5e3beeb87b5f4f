//go:build proof

package proof

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// strace gives the program; the proofs of the disk need it.
func strace(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("strace is not installed (bash internal/proof/setup.sh does it): %v", err)
	}
	return program
}

// callKind is what a system call does, as far as a power cut is concerned.
type callKind int

const (
	callWrite   callKind = iota // data at an offset
	callAppend                  // data behind the end
	callSize                    // the file gets a size
	callGrow                    // the file gets a size unless it is larger
	callMode                    // the file gets permissions
	callSync                    // begins
	callSynced                  // has ended, well or not
	callCreated                 // the file has a name that the folder may lose
	callRenamed                 // it has another one that it may lose, in the place of what had that
	callRemoved                 // it has none, unless the folder loses that
	callNamed                   // the folder is on disk
	callSaid                    // a line of the process
)

// call is one event of a trace, in order.
type call struct {
	kind  callKind
	file  string // its name in the folder
	to    string // callRenamed: the new one
	off   int64  // callWrite; callSize, callGrow: the size; callMode, callCreated: the permissions
	data  []byte // callWrite, callAppend, callSaid
	ok    bool   // callSynced
	whole bool   // callSynced: permissions too, as fsync does
}

// traceCalls are the calls that reach a file's bytes or promise them.
const traceCalls = "openat,pwrite64,pwritev,pwritev2,write,writev,ftruncate,truncate,fallocate,fdatasync,fsync," +
	"sync_file_range,rename,renameat,renameat2,link,linkat,unlink,unlinkat,copy_file_range,chmod,fchmod,fchmodat,?fchmodat2"

// traceTo has a process run under strace, which writes down what it does.
func traceTo(t *testing.T, trace string, inject ...string) []string {
	t.Helper()
	args := []string{strace(t), "-f", "-y", "-xx", "-s", "100000000", "-e", "trace=" + traceCalls, "-e", "signal=none", "-o", trace}
	return append(args, inject...)
}

// record runs the process under strace and reads what it did to the files of
// a folder. inject are strace's options that make calls fail; ok tells whether
// it ended well.
func record(t *testing.T, folder string, cmd *exec.Cmd, inject ...string) (calls []call, ok bool) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "strace")
	cmd.Args = append(append(traceTo(t, trace, inject...), cmd.Path), cmd.Args[1:]...)
	cmd.Path = cmd.Args[0]
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("%v: %v\n%s", cmd.Args[:8], err, out)
	}
	calls, readErr := readTrace(trace, folder)
	if readErr != nil {
		t.Fatalf("%v: %s", readErr, out)
	}
	return calls, err == nil
}

var (
	traceLine  = regexp.MustCompile(`^(\d+) +(?:<\.\.\. )?([a-z0-9_]+)(\(| resumed>)(.*)$`)
	traceFile  = regexp.MustCompile(`^(\d+)<([^>]*)>(\(deleted\))?(?:, )?`)
	tracePath  = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"`)
	traceMode  = regexp.MustCompile(`, (0[0-7]{3})[,)]`)
	traceValue = regexp.MustCompile(`\) += (-?\d+|\?)`)
)

// readTrace reads what happened to the files of a folder, but for logs.
func readTrace(trace, folder string) ([]call, error) {
	f, err := os.Open(trace)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := func(path string) string { // "" unless it is about such a file
		if !filepath.IsAbs(path) {
			path = filepath.Join(folder, path) // in which the process runs
		}
		dir, name := filepath.Split(path)
		if filepath.Clean(dir) != folder || strings.HasSuffix(name, ".log") {
			return ""
		}
		return name
	}
	var calls []call
	begun := make(map[string]string) // by thread: a call that has not returned
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<30)
	for lines.Scan() {
		line := lines.Text()
		m := traceLine.FindStringSubmatch(line)
		if m == nil {
			// The end of a thread, also in the middle of a call of which strace
			// could no longer see which it was: nothing came of that.
			if strings.Contains(line, " +++ ") || strings.Contains(line, " ???(") || strings.Contains(line, "<... ??? resumed>") {
				continue
			}
			return nil, fmt.Errorf("not understood: %.200s", line)
		}
		thread, name, args := m[1], m[2], m[4]
		entered, returned := true, true
		if m[3] == "(" {
			if rest, cut := strings.CutSuffix(args, " <unfinished ...>"); cut {
				args, returned = rest, false
				begun[thread] = rest
			}
		} else {
			args, entered = begun[thread]+args, false
			delete(begun, thread)
		}
		ok := false
		if v := traceValue.FindAllStringSubmatch(args, -1); returned && v != nil {
			ok = !strings.HasPrefix(v[len(v)-1][1], "-") && v[len(v)-1][1] != "?"
		}
		switch name {
		case "openat":
			file := ""
			if ok && strings.Contains(args, "O_CREAT") {
				file = in(unhexed(traceResult(args)))
			}
			if file != "" {
				if strings.Contains(args, "O_TRUNC") {
					return nil, fmt.Errorf("%s may be emptied: the proof does not know that", file)
				}
				m := traceMode.FindStringSubmatch(args)
				if m == nil {
					return nil, fmt.Errorf("not understood: openat %s", args)
				}
				mode, _ := strconv.ParseInt(m[1], 8, 64) // it matched
				calls = append(calls, call{kind: callCreated, file: file, off: mode})
			}
			continue
		case "rename", "renameat", "renameat2", "unlink", "unlinkat", "link", "linkat", "truncate", "chmod", "fchmodat", "fchmodat2":
			if !ok {
				continue
			}
			paths := tracePath.FindAllStringSubmatch(args, -1)
			if len(paths) == 0 {
				return nil, fmt.Errorf("not understood: %s %s", name, args)
			}
			c := call{file: in(unhexed(paths[0][1]))}
			switch {
			case strings.HasPrefix(name, "rename") && len(paths) == 2:
				if c.kind, c.to = callRenamed, in(unhexed(paths[1][1])); (c.file == "") != (c.to == "") {
					return nil, fmt.Errorf("a file leaves the folder: %s", args)
				}
			case strings.HasPrefix(name, "unlink"):
				c.kind = callRemoved
			case c.file == "":
				continue
			case strings.Contains(name, "chmod"):
				m := traceMode.FindStringSubmatch(args)
				if m == nil {
					return nil, fmt.Errorf("not understood: %s %s", name, args)
				}
				c.kind = callMode
				c.off, _ = strconv.ParseInt(m[1], 8, 64) // it matched
			default:
				return nil, fmt.Errorf("%s on %s: the proof does not know what that does", name, c.file)
			}
			if c.file != "" {
				calls = append(calls, c)
			}
			continue
		}
		of, file, standard := "", "", false
		if m := traceFile.FindStringSubmatch(args); m != nil {
			of, args = unhexed(m[2]), args[len(m[0]):]
			standard = m[1] == "1" || m[1] == "2"
			if m[3] == "" && filepath.IsAbs(of) { // a file without a name is nothing that outlives the process
				file = in(of)
			}
		}
		switch {
		case standard && name == "write":
			if entered {
				data, _, err := traceData(args)
				if err != nil {
					return nil, err
				}
				calls = append(calls, call{kind: callSaid, data: data})
			}
		case of == folder && name == "fsync" && returned && ok:
			calls = append(calls, call{kind: callNamed})
		case file == "":
		case name == "write" && entered:
			data, _, err := traceData(args)
			if err != nil {
				return nil, err
			}
			calls = append(calls, call{kind: callAppend, file: file, data: data})
		case name == "pwrite64" && entered:
			// One that failed may have written some of it all the same.
			data, rest, err := traceData(args)
			if err != nil {
				return nil, err
			}
			n, off, _ := strings.Cut(strings.TrimPrefix(rest, ", "), ", ")
			off, _, _ = strings.Cut(off, ")")
			at, err := strconv.ParseInt(off, 10, 64)
			if count, err2 := strconv.Atoi(n); err != nil || err2 != nil || count != len(data) {
				return nil, fmt.Errorf("not understood: %d bytes,%s", len(data), rest)
			}
			calls = append(calls, call{kind: callWrite, file: file, off: at, data: data})
		case (name == "fdatasync" || name == "fsync"):
			if entered {
				calls = append(calls, call{kind: callSync, file: file})
			}
			if returned {
				calls = append(calls, call{kind: callSynced, file: file, ok: ok, whole: name == "fsync"})
			}
		case name == "ftruncate" && returned:
			size, _, _ := strings.Cut(args, ")")
			n, err := strconv.ParseInt(size, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("not understood: ftruncate %s", args)
			}
			if ok {
				calls = append(calls, call{kind: callSize, file: file, off: n})
			}
		case name == "fallocate" && returned:
			var mode, off, size int64
			if _, err := fmt.Sscanf(args, "%d, %d, %d)", &mode, &off, &size); err != nil || mode != 0 {
				return nil, fmt.Errorf("not understood: fallocate %s", args)
			}
			if ok {
				calls = append(calls, call{kind: callGrow, file: file, off: off + size})
			}
		case name == "fchmod" && returned:
			m := traceMode.FindStringSubmatch(", " + args)
			if m == nil {
				return nil, fmt.Errorf("not understood: fchmod %s", args)
			}
			mode, _ := strconv.ParseInt(m[1], 8, 64) // it matched
			if ok {
				calls = append(calls, call{kind: callMode, file: file, off: mode})
			}
		case name == "ftruncate" || name == "fallocate" || name == "pwrite64" || name == "write" || name == "fchmod":
		default:
			return nil, fmt.Errorf("%s on %s: the proof does not know what that does", name, file)
		}
	}
	return calls, lines.Err()
}

// traceResult gives the path of the descriptor that a call returned.
func traceResult(args string) string {
	_, result, _ := strings.Cut(args[strings.LastIndex(args, ") ")+1:], "<")
	path, _, _ := strings.Cut(result, ">")
	return path
}

// traceData reads the string that args begin with.
func traceData(args string) (data []byte, rest string, err error) {
	if !strings.HasPrefix(args, `"`) {
		return nil, "", fmt.Errorf("no string: %.100s", args)
	}
	end := strings.IndexByte(args[1:], '"') + 1
	data, err = hex.DecodeString(strings.ReplaceAll(args[1:end], `\x`, ""))
	if rest = args[end+1:]; strings.HasPrefix(rest, "...") {
		err = fmt.Errorf("a string is cut short")
	}
	return data, rest, err
}

// unhexed reads a path as strace writes it, with and without -xx.
func unhexed(path string) string {
	if !strings.HasPrefix(path, `\x`) {
		return path
	}
	b, err := hex.DecodeString(strings.ReplaceAll(path, `\x`, ""))
	if err != nil {
		return path
	}
	return string(b)
}
