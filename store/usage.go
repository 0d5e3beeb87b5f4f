package store

import "tbhist/thing"

// ThingUsage is what history holds of one Thing.
type ThingUsage struct {
	Name thing.Name
	// Updates counts its updates in history.
	Updates uint64
	// Bytes is their data and documentation URLs added up, as limits by bytes
	// count them: not what they take of the file, which is compressed.
	Bytes int64
	// Oldest and Newest are when the first and the last of them by Seq were
	// received. Oldest is 0 where damage took it.
	Oldest, Newest thing.Micros
	// Limit is the limit in force for the Thing.
	Limit Limit
}
