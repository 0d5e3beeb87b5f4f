package main

import (
	"fmt"
	"runtime"
)

// machine says what a run was made on, and what else that had to do.
type machine struct {
	CPUs       int     `json:"cpus"`
	GoVersion  string  `json:"go"`
	OS         string  `json:"os"`
	FileSystem string  `json:"file_system,omitempty"`
	LoadBefore float64 `json:"load_before"`
	LoadAfter  float64 `json:"load_after"`
	// Steal is the share of CPU time that went to other machines; in %.
	Steal float64 `json:"steal_percent"`

	ticks cpuTicks
}

func (m *machine) begin(dir string) {
	m.CPUs, m.GoVersion, m.OS = runtime.NumCPU(), runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH
	m.FileSystem = fileSystem(dir)
	m.LoadBefore, m.ticks = load(), readTicks()
}

func (m *machine) end() {
	m.LoadAfter, m.Steal = load(), m.ticks.stolen()
}

// String writes it in one line.
func (m *machine) String() string {
	return fmt.Sprintf("%d CPUs, %s, %s, file system %s, load %.1f before and %.1f after, %.1f %% stolen",
		m.CPUs, m.OS, m.GoVersion, m.FileSystem, m.LoadBefore, m.LoadAfter, m.Steal)
}

// cpuTicks is the time of all CPUs since the machine began, and the stolen
// part of it.
type cpuTicks struct{ all, steal float64 }

// stolen gives the stolen share since then, in %.
func (t cpuTicks) stolen() float64 {
	now := readTicks()
	if now.all <= t.all {
		return 0
	}
	return 100 * (now.steal - t.steal) / (now.all - t.all)
}
