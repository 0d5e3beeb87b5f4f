package storetest

import (
	"errors"
	"slices"
	"strings"

	"tbhist/store"
	"tbhist/thing"
)

// defects are what a memory engine does wrong on purpose, each with the test
// that has to notice.
var defects = map[string]string{
	"after includes":                     "ReadMembers",
	"age a microsecond late":             "Age",
	"age out of order":                   "Age",
	"age without trust":                  "AgeDistrust",
	"bytes limit one too high":           "Bytes",
	"count limit one too high":           "Count",
	"directory by time":                  "AsOf",
	"directory without the unknown":      "AsOf",
	"doc: falsy ones stick":              "StickyDoc",
	"doc: not sticky":                    "StickyDoc",
	"doc: null for none":                 "Content",
	"evicted: inexact":                   "Evicted",
	"evicted: none":                      "Evicted",
	"evicted: one too few":               "Evicted",
	"evicted: one too many":              "Evicted",
	"evicted: trusts the clock":          "EvictedByTime",
	"keeps the caller's bytes":           "AppendCopies",
	"last of the tree":                   "ReadLast",
	"limit one too high":                 "ReadMembers",
	"limited not told":                   "ReadMembers",
	"loses a Thing's count at reopening": "Seq",
	"loses an update":                    "ReadPages",
	"loses the end at reopening":         "Seq",
	"match for each update":              "ReadMatch",
	"next at the end":                    "ReadPages",
	"one rule for all":                   "Prefixes",
	"raised limits bring back":           "ChangedLimits",
	"reads after Close":                  "Closed",
	"resume repeats":                     "Resume",
	"resume takes any":                   "BadResume",
	"tree takes neighbours":              "ReadMembers",
	"ts: loses its last bit":             "Content",
	"ts: loses the sign of zero":         "Content",
	"unfair":                             "MaxDB",
	"until includes":                     "ReadMembers",
	"wrong error for a bad resume":       "BadResume",
}

func (e *memory) has(defect string) bool { return e.defect == defect }

func (e *memory) rules(rules []store.Rule) []store.Rule {
	out := slices.Clone(rules)
	for i := range out {
		if l := &out[i].Limit; e.has("count limit one too high") && l.Count > 0 {
			l.Count++
		} else if e.has("bytes limit one too high") && l.Bytes > 0 {
			l.Bytes++
		}
	}
	if e.has("one rule for all") && len(out) > 0 {
		out = out[:1]
	}
	return out
}

func (e *memory) reopened() {
	for _, r := range e.m.things {
		if e.has("raised limits bring back") {
			r.evicted = 0
		}
		if e.has("loses a Thing's count at reopening") && len(r.live()) > 1 {
			r.all = append(slices.Clone(r.all[:r.evicted]), r.newest())
		}
	}
	if n := len(e.m.log); e.has("loses the end at reopening") && n > 0 {
		r := e.m.log[n-1].ring
		if len(r.live()) > 1 {
			r.all = r.all[:len(r.all)-1]
			e.m.log = e.m.log[:n-1]
		}
	}
}

func (e *memory) age() {
	switch now := e.o.Now(); e.defect {
	case "age a microsecond late":
		e.m.age(now.Add(-1000))
	case "age out of order":
		for _, r := range e.m.things {
			limit, _ := e.m.rules.For(r.name)
			for i, k := range r.all[:len(r.all)-1] {
				if limit.Age > 0 && k.Received < thing.MicrosOf(now.Add(-limit.Age)) {
					r.evicted = max(r.evicted, uint64(i+1))
				}
			}
		}
	default:
		e.m.age(now)
	}
}

func (e *memory) append(batch []thing.Update) []thing.Update {
	out := e.m.append(batch)
	if e.has("keeps the caller's bytes") {
		for i := range out {
			e.m.log[out[i].Seq-1].Data = batch[i].Data
		}
	}
	return out
}

func (e *memory) sticky(r *ring, asOf *kept) *kept {
	switch e.defect {
	case "doc: not sticky":
		if truthy(asOf.Doc) {
			return asOf
		}
		return nil
	case "doc: falsy ones stick":
		for _, k := range slices.Backward(r.all[:asOf.ThingSeq]) {
			if k.Doc != nil {
				return k
			}
		}
		return nil
	}
	return r.doc(asOf)
}

func (e *memory) shown(k *kept) thing.Update {
	u := copyUpdate(&k.Update)
	switch {
	case e.has("ts: loses the sign of zero") && u.TS == 0:
		u.TS = 0
	case e.has("ts: loses its last bit"):
		u.TS = thing.MicrosOfSeconds(u.TS).Seconds()
	case e.has("doc: null for none") && u.Doc == nil:
		u.Doc = []byte("null")
	}
	return u
}

func (e *memory) badResume(resume []byte) error {
	switch {
	case e.has("resume takes any"):
		return nil
	case e.has("wrong error for a bad resume"):
		return errors.New("no")
	}
	return store.ErrBadResume
}

func (e *memory) answer(a *question, after uint64) []*kept {
	switch e.defect {
	case "after includes":
		if after > 0 && after == a.After {
			a.After--
			after--
		}
	case "resume repeats":
		if after > a.After {
			after--
		}
	case "until includes":
		if a.Until != nil {
			until := *a.Until + 1
			a.Until = &until
		}
	}
	list := e.m.live(a, after)
	switch e.defect {
	case "loses an update":
		list = slices.DeleteFunc(list, func(k *kept) bool { return k.Seq%41 == 0 })
	case "tree takes neighbours":
		list = nil
		for _, k := range e.m.log[min(after, e.m.head()):] {
			near := a.Tree && strings.HasPrefix(string(k.Name), string(a.Name)) && a.Match == nil && a.Since == nil && a.Until == nil && a.Last == 0 && a.UpTo == 0
			if !k.evicted() && (near || a.wants(k)) {
				list = append(list, k)
			}
		}
	case "last of the tree":
		if a.Last != 0 && uint64(len(list)) > a.Last {
			list = list[uint64(len(list))-a.Last:]
		}
	}
	return list
}

func (e *memory) miscount(a *question, p *store.Page) {
	switch e.defect {
	case "evicted: trusts the clock":
		for _, r := range e.m.things {
			if a.about(r.name) && r.evicted > 0 && (a.Since == nil || timeOf(r.all[r.evicted-1], a.By) >= *a.Since) {
				return
			}
		}
		p.Evicted = 0
	case "evicted: inexact":
		p.EvictedExact = false
	case "evicted: none":
		p.Evicted = 0
	case "evicted: one too few":
		p.Evicted -= min(p.Evicted, 1)
	case "evicted: one too many":
		p.Evicted += min(p.Evicted, 1)
	case "limited not told":
		p.Limited = false
	case "next at the end":
		if p.Next == nil && !p.Limited {
			p.Next = e.position(memoryResume{Last: p.Head, Head: p.Head})
		}
	}
}

func (e *memory) past(q store.AsOf) []past {
	out := e.m.asOf(q)
	for i := range out {
		p := &out[i]
		if !e.has("directory by time") || p.last == nil {
			continue
		}
		for _, k := range e.m.things[p.name].live() {
			if k.Received <= q.At && k.Received > p.last.Received {
				p.last = k
			}
		}
	}
	if e.has("directory without the unknown") {
		out = slices.DeleteFunc(out, func(p past) bool { return p.last == nil })
	}
	return out
}
