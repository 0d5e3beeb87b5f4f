package cli

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lockHolder says which process has a file locked; "" if that is not to be
// found out.
func lockHolder(path string) string {
	var st syscall.Stat_t
	if syscall.Stat(path, &st) != nil {
		return ""
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return ""
	}
	defer func() { _ = locks.Close() }()
	inode := strconv.FormatUint(st.Ino, 10)
	// 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 6 || words[1] != "FLOCK" {
			continue
		}
		pid, err := strconv.Atoi(words[4])
		place := words[5]
		if err != nil || pid <= 0 || place[strings.LastIndexByte(place, ':')+1:] != inode || !hasOpen(pid, &st) {
			continue
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			return fmt.Sprintf("process %d", pid)
		}
		return fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(comm)), pid)
	}
	return ""
}

// hasOpen tells whether a process has the file open: inodes of several file
// systems have the same numbers. Of another user's process nobody tells: then
// the number is believed.
func hasOpen(pid int, file *syscall.Stat_t) bool {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return true
	}
	for _, fd := range fds {
		var st syscall.Stat_t
		if syscall.Stat(dir+fd.Name(), &st) == nil && st.Ino == file.Ino && st.Dev == file.Dev {
			return true
		}
	}
	return false
}
