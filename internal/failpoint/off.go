//go:build !failpoint

// Package failpoint names the instants at which a crash is worth trying. In a
// normal build a point is an empty function, which the compiler leaves out. A
// program built with -tags failpoint ends itself, as SIGKILL would, at the
// point that the environment names: TBHIST_FAILPOINT=NAME or NAME:N for its
// N-th passing.
package failpoint

// Hit marks a point.
func Hit(string) {}
