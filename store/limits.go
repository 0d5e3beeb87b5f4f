package store

import (
	"fmt"
	"sort"
	"time"

	"tbhist/thing"
)

// Unlimited as a part of a Limit sets no bound, and stops the search for a
// less specific rule's.
const Unlimited = -1

// Limit bounds one ring. A part that is 0 is taken from the next less
// specific rule; Unlimited bounds nothing. A Thing's newest update is never
// evicted, whatever the limit.
type Limit struct {
	Count int64         // updates
	Age   time.Duration // now − Received
	Bytes int64         // thing.Update.Size of what is kept, added up
}

// Rule is a limit for a Thing and all below it; Prefix "" is everything.
type Rule struct {
	Prefix thing.Name
	Limit  Limit
}

// Rules answers which limits hold for a Thing. Every part comes from the
// most specific rule that sets it.
type Rules struct {
	byLength []Rule // longest prefix first
}

// NewRules orders the rules; two for the same prefix are an error.
func NewRules(rules []Rule) (*Rules, error) {
	r := &Rules{byLength: append([]Rule(nil), rules...)}
	sort.SliceStable(r.byLength, func(i, j int) bool {
		a, b := r.byLength[i].Prefix, r.byLength[j].Prefix
		if len(a) != len(b) {
			return len(a) > len(b)
		}
		return a < b
	})
	for i := 1; i < len(r.byLength); i++ {
		if r.byLength[i].Prefix == r.byLength[i-1].Prefix {
			return nil, fmt.Errorf("two limits for the namespace %q: give its count, age and bytes in one", r.byLength[i].Prefix)
		}
	}
	return r, nil
}

// All gives the rules, most specific first.
func (r *Rules) All() []Rule { return r.byLength }

// For gives the limit of one Thing: parts that no rule sets, or that are
// Unlimited, are 0, for no bound. age tells which rule the age comes from,
// an index into All, −1 for none.
func (r *Rules) For(name thing.Name) (limit Limit, age int) {
	age = -1
	for i, rule := range r.byLength {
		if !name.Under(rule.Prefix) {
			continue
		}
		if limit.Count == 0 {
			limit.Count = rule.Limit.Count
		}
		if limit.Age == 0 {
			if limit.Age = rule.Limit.Age; limit.Age > 0 {
				age = i
			}
		}
		if limit.Bytes == 0 {
			limit.Bytes = rule.Limit.Bytes
		}
	}
	limit.Count = max(limit.Count, 0)
	limit.Age = max(limit.Age, 0)
	limit.Bytes = max(limit.Bytes, 0)
	return limit, age
}
