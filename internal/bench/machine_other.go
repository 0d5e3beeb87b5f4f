//go:build !linux

package main

import "os"

func datasync(f *os.File) error { return f.Sync() }

func load() float64               { return 0 }
func readTicks() cpuTicks         { return cpuTicks{} }
func fileSystem(string) string    { return "" }
func rssAnon(int) (float64, bool) { return 0, false }

func cpuSeconds(int) float64 { return 0 }
