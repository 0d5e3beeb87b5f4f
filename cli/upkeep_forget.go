package cli

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"tbhist/directory"
	"tbhist/store"
	"tbhist/thing"
)

var errClosing = errors.New("the broker is closing: nothing was forgotten")

// forget takes a Thing, and with tree all below it, out of the history, the
// directory and everything else that knows it. The pipeline does it between
// two batches, so that no other part ever knows a Thing that another one has
// forgotten. It returns once that is on disk; after an error nothing was
// forgotten. With dryRun it tells what would go, and changes nothing.
func (b *broker) forget(ctx context.Context, name thing.Name, tree, dryRun bool) (store.Forgotten, error) {
	if dryRun {
		all, err := b.db.Forget(ctx, name, tree, true)
		var names []thing.Name
		b.directory.Walk(nil, name, tree, func(e *directory.Entry) bool {
			names = append(names, e.Update.Name)
			return true
		})
		return withNames(all, names), err
	}
	type answer struct {
		all store.Forgotten
		err error
	}
	done := make(chan answer, 1)
	var taken atomic.Bool // by the pipeline, or back by who waits
	asked := b.ingest.Between(func() {
		if taken.Swap(true) {
			return
		}
		all, err := b.forgetNow(ctx, name, tree)
		done <- answer{all, err}
	})
	if !asked {
		return store.Forgotten{}, errClosing
	}
	var err error
	select {
	case a := <-done:
		return a.all, a.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-b.piped:
		err = errClosing
	}
	if !taken.Swap(true) {
		return store.Forgotten{}, err
	}
	a := <-done // it is at it, and will tell
	return a.all, a.err
}

// forgetNow is forget's work. It belongs to the pipeline. The history comes
// first: what is not on disk was not forgotten.
func (b *broker) forgetNow(ctx context.Context, name thing.Name, tree bool) (store.Forgotten, error) {
	b.pulse.begin() // the disk may give no answer here, too
	defer b.pulse.end()
	all, err := b.db.Forget(ctx, name, tree, false)
	if err != nil {
		return all, err
	}
	b.ingest.Forget(name, tree)
	names := b.directory.Forget(name, tree)
	b.publisher.Forgotten()
	return withNames(all, names), nil
}

// withNames adds Things that only the directory knows: the disk refused all
// of their updates.
func withNames(all store.Forgotten, names []thing.Name) store.Forgotten {
	names = append(names, all.Names...)
	slices.Sort(names)
	all.Names = slices.Compact(names)
	all.Things = len(all.Names)
	return all
}
