//go:build proof

package proof

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
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
	callSize                    // the file gets a size
	callGrow                    // the file gets a size unless it is larger
	callSync                    // begins
	callSynced                  // has ended, well or not
	callCreated                 // the file has a name that the folder may lose
	callNamed                   // the folder is on disk
	callSaid                    // a line of the process
)

// call is one event of a trace, in order.
type call struct {
	kind callKind
	off  int64  // callWrite; callSize, callGrow: the size
	data []byte // callWrite, callSaid
	ok   bool   // callSynced
}

// traceCalls are the calls that reach a file's bytes or promise them.
const traceCalls = "openat,pwrite64,pwritev,pwritev2,write,writev,ftruncate,fallocate,fdatasync,fsync," +
	"sync_file_range,rename,renameat,renameat2,unlink,unlinkat,copy_file_range"

// record runs the process under strace and reads the events of path. inject
// are strace's options that make calls fail.
func record(t *testing.T, path string, cmd *exec.Cmd, inject ...string) []call {
	t.Helper()
	trace := path + ".strace"
	args := append([]string{"-f", "-y", "-xx", "-s", "100000000", "-e", "trace=" + traceCalls, "-e", "signal=none", "-o", trace}, inject...)
	cmd.Args = append(append([]string{"strace"}, append(args, cmd.Path)...), cmd.Args[1:]...)
	cmd.Path = strace(t)
	said, err := os.Create(path + ".said")
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd.Stderr = said // a file, so that it is the process's own write that is seen
	if out, err := cmd.Output(); err != nil {
		last, _ := os.ReadFile(path + ".log")
		t.Fatalf("%v: %v\n%s\n%s", cmd.Args[:8], err, out, last)
	}
	calls, err := readTrace(trace, path)
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

var (
	traceLine  = regexp.MustCompile(`^(\d+) +(?:<\.\.\. )?([a-z0-9_]+)(\(| resumed>)(.*)$`)
	traceFile  = regexp.MustCompile(`^\d+<([^>]*)>(?:, )?`)
	traceValue = regexp.MustCompile(`\) += (-?\d+|\?)`)
)

// readTrace reads what happened to the file at path.
func readTrace(trace, path string) ([]call, error) {
	f, err := os.Open(trace)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	folder := path[:strings.LastIndexByte(path, '/')]
	var calls []call
	begun := make(map[string]string) // by thread: a call that has not returned
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<30)
	for lines.Scan() {
		line := lines.Text()
		m := traceLine.FindStringSubmatch(line)
		if m == nil {
			if strings.Contains(line, " +++ ") {
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
		if name == "openat" {
			if returned && strings.Contains(args, "O_CREAT") && unhexed(traceResult(args)) == path {
				calls = append(calls, call{kind: callCreated})
			}
			continue
		}
		of := ""
		if m := traceFile.FindStringSubmatch(args); m != nil {
			of, args = unhexed(m[1]), args[len(m[0]):]
		}
		ok := false
		if v := traceValue.FindAllStringSubmatch(args, -1); returned && v != nil {
			ok = !strings.HasPrefix(v[len(v)-1][1], "-") && v[len(v)-1][1] != "?"
		}
		switch {
		case of == path+".said" && name == "write" && entered:
			data, _, err := traceData(args)
			if err != nil {
				return nil, err
			}
			calls = append(calls, call{kind: callSaid, data: data})
		case of == folder && name == "fsync" && returned && ok:
			calls = append(calls, call{kind: callNamed})
		case of != path:
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
			calls = append(calls, call{kind: callWrite, off: at, data: data})
		case (name == "fdatasync" || name == "fsync"):
			if entered {
				calls = append(calls, call{kind: callSync})
			}
			if returned {
				calls = append(calls, call{kind: callSynced, ok: ok})
			}
		case name == "ftruncate" && returned:
			size, _, _ := strings.Cut(args, ")")
			n, err := strconv.ParseInt(size, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("not understood: ftruncate %s", args)
			}
			if ok {
				calls = append(calls, call{kind: callSize, off: n})
			}
		case name == "fallocate" && returned:
			var mode, off, size int64
			if _, err := fmt.Sscanf(args, "%d, %d, %d)", &mode, &off, &size); err != nil || mode != 0 {
				return nil, fmt.Errorf("not understood: fallocate %s", args)
			}
			if ok {
				calls = append(calls, call{kind: callGrow, off: off + size})
			}
		case name == "ftruncate" || name == "fallocate" || name == "pwrite64":
		default:
			return nil, fmt.Errorf("%s on the history: the proof does not know what that does", name)
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
