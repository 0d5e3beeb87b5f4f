// Package disk tells what the system knows of a disk, and has it keep names.
package disk
