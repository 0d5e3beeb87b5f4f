package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// flashOf tells on which SD card or eMMC the file at path lies or will lie,
// "" if it lies on none. sys is where sysfs is.
func flashOf(sys, path string) string {
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	dev := uint64(stat.Dev) //nolint:unconvert // 32 bits on some systems
	return flashDevice(sys, fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)), 8)
}

// flashDevice looks at a block device, and below one that stands on others,
// as encrypted ones do; depth bounds how far.
func flashDevice(sys, number string, depth int) string {
	dir, err := filepath.EvalSymlinks(filepath.Join(sys, "dev", "block", number))
	if err != nil || depth == 0 {
		return ""
	}
	for _, part := range strings.Split(dir, string(filepath.Separator)) {
		if strings.HasPrefix(part, "mmcblk") {
			return part
		}
	}
	below, err := filepath.Glob(filepath.Join(dir, "slaves", "*", "dev"))
	if err != nil {
		return ""
	}
	for _, file := range below {
		if number, err := os.ReadFile(file); err == nil {
			if found := flashDevice(sys, strings.TrimSpace(string(number)), depth-1); found != "" {
				return found
			}
		}
	}
	return ""
}
