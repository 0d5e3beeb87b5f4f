// Package disk tells what the system knows of a disk.
package disk
