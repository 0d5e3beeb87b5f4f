package cli

import (
	"context"
	"io"

	"tbhist/publish"
)

// upkeep is what the broker lets those do over HTTP who look after it.
func (b *broker) upkeep() *publish.Upkeep {
	return &publish.Upkeep{
		Token:  b.s.httpToken,
		Forget: b.forget,
		Usage:  b.db.Usage,
		Backup: func(ctx context.Context, w io.Writer) error {
			_, err := b.db.Backup(ctx, w, nil)
			return err
		},
		FileBytes: func() (size, most int64) { return b.db.Stats().FileBytes, b.s.maxDB },
	}
}
