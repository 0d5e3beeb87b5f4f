package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/store"
	"tbhist/store/bolt"
)

func (p *program) dbBackupCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "backup",
		Usage:     "copy the history of a running broker",
		ArgsUsage: "FILE|-",
		Description: `Copies the history while the broker runs: every update up to the newest one at
its start.

  tbhist db backup /backup/tbhist-$(date +%F).db
  tbhist db backup - | zstd > tbhist.db.zst     to standard output

The copy is a history file: replay --from-db reads it where it is, and to
restore it, put it in the place of the broker's own while that is stopped. The
first start on it gives it an epoch of its own, so that clients can tell. A FILE
that is there is replaced when the copy is whole, and stays as it is otherwise.
Of a damaged history a new FILE gets what can be read; the exit code is 3 then.

It is answered to programs on the broker's own machine, and to others with the
token of serve --http-token.`,
		Flags:  []urfave.Flag{quietFlag(), tokenFlag(), brokerFlag(), zoneFlag(), dnsFlag()},
		Action: oneFile("file to write, or - for standard output", p.dbBackup),
	}
}

func (p *program) dbBackup(c *urfave.Context, path string) error {
	if path == "-" && isTerminal(p.stdout) {
		return usagef("a backup is nothing to read on a terminal: name a file, or send it on with > or |")
	}
	cl, err := p.dial(c)
	if err != nil {
		return err
	}
	w, hide := p.startWorking(c, "copying", nil)
	defer hide()
	return p.finish(func(ctx context.Context) error {
		if path == "-" {
			return p.backupTo(ctx, cl, w)
		}
		info, err := takeBackup(ctx, cl, path, w)
		if err != nil {
			return err
		}
		p.noteBackup(c, path, &info)
		return wantAll(path, &info)
	}, func() string {
		switch _, err := os.Stat(path); {
		case path == "-":
			return "what was written is no backup"
		case err == nil:
			return "no backup was made; " + path + " is as it was"
		}
		return "no backup was made"
	})
}

// takeBackup makes a history file of what the broker sends.
func takeBackup(ctx context.Context, cl *client.Client, path string, w *working) (bolt.BackupInfo, error) {
	// What cannot be written is better known before the broker begins.
	if err := writableDir(path); err != nil {
		return bolt.BackupInfo{}, err
	}
	stream, err := cl.Backup(ctx)
	if err != nil {
		return bolt.BackupInfo{}, err
	}
	info, err := bolt.WriteBackup(ctx, path, stream, w.note)
	if err = errors.Join(err, stream.Close()); err != nil {
		return info, fmt.Errorf("no backup was made: %w", backupError(path, err))
	}
	return info, nil
}

func backupError(path string, err error) error {
	if errors.Is(err, store.ErrLocked) {
		holder := lockHolder(path)
		if holder == "" {
			holder = "another process"
		}
		return fmt.Errorf("%s is a history that is in use by %s: name another file", path, holder)
	}
	return fileError(path, err)
}

// backupTo writes a backup to standard output: a whole file, made beforehand
// in the directory for temporary files.
func (p *program) backupTo(ctx context.Context, cl *client.Client, w *working) (err error) {
	dir, err := os.MkdirTemp("", "tbhist-backup-")
	if err != nil {
		return fmt.Errorf("no backup was made: %w; TMPDIR names another directory for temporary files", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "tbhist.db")
	taken, err := takeBackup(ctx, cl, path, w)
	if err != nil {
		if strings.Contains(err.Error(), dir) {
			err = fmt.Errorf("%w; TMPDIR names another directory for temporary files", err)
		}
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	w.next("writing", formatSize)
	var total int64
	if info, err := f.Stat(); err == nil {
		total = info.Size()
	}
	done := int64(0)
	for ctx.Err() == nil {
		n, err := io.CopyN(p.stdout, f, 1<<20)
		done += n
		w.note(done, total)
		if errors.Is(err, io.EOF) {
			return wantAll("the backup", &taken)
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// wantAll tells what a backup lacks: who deletes older ones after a good one
// must see it.
func wantAll(what string, info *bolt.BackupInfo) error {
	if info.Lost == 0 {
		return nil
	}
	return &incompleteError{fmt.Sprintf("%s lacks %s that could not be read: the history is damaged, and an older backup may have them", what, updates(info.Lost))}
}

func (p *program) noteBackup(c *urfave.Context, path string, info *bolt.BackupInfo) {
	size := ""
	if file, err := os.Stat(path); err == nil {
		size = ", " + formatSize(file.Size())
	}
	p.note(c, "%s: %s with %s up to seq %d of history %s%s", path, things(info.Things), updates(info.Updates), info.Head, info.Epoch, size)
}
