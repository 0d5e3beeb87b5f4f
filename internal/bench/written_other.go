//go:build !linux

package main

func deviceBytes(string) (float64, bool) { return 0, false }
func settleDevice()                      {}
