package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func datasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// load gives the load of the last minute.
func load() (v float64) {
	text, _ := os.ReadFile("/proc/loadavg") // 0 where there is none
	_, _ = fmt.Sscan(string(text), &v)      // the same
	return v
}

func readTicks() (t cpuTicks) {
	text, _ := os.ReadFile("/proc/stat") // nothing where there is none
	line, _, _ := strings.Cut(string(text), "\n")
	for i, s := range strings.Fields(line) {
		v, _ := strconv.ParseFloat(s, 64) // 0 for the name
		if i <= 8 {                       // guests are in user already
			t.all += v
		}
		if i == 8 {
			t.steal = v
		}
	}
	return t
}

// fileSystem names that of dir.
func fileSystem(dir string) string {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return ""
	}
	switch int64(s.Type) {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.TMPFS_MAGIC:
		return "tmpfs, which is memory: choose another with -dir"
	}
	return fmt.Sprintf("%#x", int64(s.Type))
}

// rssAnon gives the anonymous memory of a process in bytes.
func rssAnon(pid int) (float64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if kB, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kB), "kB")), 64)
			return v * 1024, err == nil
		}
	}
	return 0, false
}

// cpuSeconds gives the CPU time of a process until now.
func cpuSeconds(pid int) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // 0 where there is none
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(fields[11], 64)   // the kernel writes numbers
	system, _ := strconv.ParseFloat(fields[12], 64) // the same
	return (user + system) / 100                    // USER_HZ
}
