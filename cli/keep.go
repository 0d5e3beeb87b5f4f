package cli

import (
	"fmt"
	"strconv"
	"strings"

	"tbhist/store"
	"tbhist/thing"
)

const takenKeep = "NS=COUNT[,AGE[,BYTES]], as shop=1000,7d,10MiB"

// unlimited as a part of a limit takes away the bound that a less specific
// limit sets.
const unlimited = "unlimited"

// parseKeep reads one limit of --keep. A part left empty is 0: it comes from
// the next less specific namespace.
func parseKeep(s string) (store.Rule, error) {
	ns, limits, ok := strings.Cut(s, "=")
	if !ok {
		return store.Rule{}, fmt.Errorf("%q is not %s", s, takenKeep)
	}
	name, err := parseNS(ns)
	if err != nil {
		return store.Rule{}, fmt.Errorf("%q: %w", s, err)
	}
	parts := strings.Split(limits, ",")
	if len(parts) > 3 {
		return store.Rule{}, fmt.Errorf("%q has more than three parts; taken is %s", s, takenKeep)
	}
	rule := store.Rule{Prefix: name}
	set := false
	for i, part := range parts {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		set = true
		var err error
		switch i {
		case 0:
			rule.Limit.Count, err = parseCount(part)
		case 1:
			rule.Limit.Age, err = positive(part, parseDuration)
		case 2:
			rule.Limit.Bytes, err = positive(part, parseSize)
		}
		if err != nil {
			return store.Rule{}, fmt.Errorf("%q: %w", s, err)
		}
	}
	if !set {
		return store.Rule{}, fmt.Errorf("%q sets no limit; taken is %s", s, takenKeep)
	}
	return rule, nil
}

// parseCount reads how many updates a ring holds.
func parseCount(s string) (int64, error) {
	if strings.EqualFold(s, unlimited) {
		return store.Unlimited, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if _, ageErr := parseDuration(s); err != nil && ageErr == nil {
		return 0, fmt.Errorf("%q is an age, which comes second: NS=,%s", s, s)
	}
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is not a number of updates from 1, nor %q", s, unlimited)
	}
	return n, nil
}

// positive parses a bound that may not be zero: a ring always holds the
// newest update, and 0 would mean "from the next less specific".
func positive[T ~int64](s string, parse func(string) (T, error)) (T, error) {
	if strings.EqualFold(s, unlimited) {
		return store.Unlimited, nil
	}
	n, err := parse(s)
	if err == nil && n <= 0 {
		err = fmt.Errorf("%q is no limit; say %q for none", s, unlimited)
	}
	return n, err
}

// ringRules joins --ring, the count of every ring, with the limits of
// --keep. ringSet tells that --ring was given rather than the default: then
// a count for everything in --keep contradicts it.
func ringRules(ring int64, ringSet bool, keep []string) ([]store.Rule, error) {
	rules := []store.Rule{{Limit: store.Limit{Count: ring}}}
	everything := false
	for _, values := range keep {
		// One value may hold several limits, as the environment's does.
		for _, s := range strings.Fields(values) {
			rule, err := parseKeep(s)
			if err != nil {
				return nil, usagef("--keep: %v", err)
			}
			if rule.Prefix != "" {
				rules = append(rules, rule)
				continue
			}
			switch {
			case everything:
				return nil, usagef("--keep: two limits for everything; give its count, age and bytes in one")
			case rule.Limit.Count == 0:
				rule.Limit.Count = ring
			case ringSet:
				return nil, usagef("--ring %d and --keep %q both set the count of everything; give one", ring, s)
			}
			rules[0], everything = rule, true
		}
	}
	if _, err := store.NewRules(rules); err != nil {
		return nil, usagef("--keep: %v", err)
	}
	return rules, nil
}

// parseNS reads a namespace from the command line: the root is "" or `""`.
func parseNS(s string) (thing.Name, error) {
	if s == `""` {
		return "", nil
	}
	if !thing.ValidName(s) {
		return "", fmt.Errorf(`%q is not a namespace: "" or parts of [a-z][a-z0-9_-]{0,63} joined by ".", %d bytes at most`, s, thing.MaxNameBytes)
	}
	return thing.Name(s), nil
}
