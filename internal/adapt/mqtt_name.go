package adapt

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"tbhist/thing"
)

// Bounds of MQTT and of a namespace.
const (
	maxTopicFilter = 65535
	maxPart        = 64
)

// CheckTopic tells what is wrong with a topic to subscribe to.
func CheckTopic(filter string) error {
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		switch {
		case level == "#" && i != len(levels)-1:
			return fmt.Errorf("%q: # stands at the end alone, after a /", filter)
		case len(level) > 1 && strings.ContainsAny(level, "#+"):
			return fmt.Errorf("%q: # and + stand for whole levels, as in a/+/b and a/#", filter)
		}
	}
	switch {
	case filter == "":
		return fmt.Errorf("a topic is empty; # is all of them")
	case len(filter) > maxTopicFilter || !utf8.ValidString(filter) || strings.ContainsRune(filter, 0):
		return fmt.Errorf("%.40q is no topic: it is too long, or not UTF-8", filter)
	}
	return nil
}

// matches tells whether a topic is one that filter asks for. Topics that
// begin with $ are asked for by name only.
func matches(filter, topic string) bool {
	if shared, ok := strings.CutPrefix(filter, "$share/"); ok {
		_, filter, _ = strings.Cut(shared, "/")
	}
	if strings.HasPrefix(topic, "$") != strings.HasPrefix(filter, "$") {
		return false
	}
	for {
		want, filterRest, more := strings.Cut(filter, "/")
		if want == "#" {
			return true
		}
		level, topicRest, has := strings.Cut(topic, "/")
		switch {
		case want != "+" && want != level:
			return false
		case !has:
			// a/# asks for a, too.
			return !more || filterRest == "#"
		case !more:
			return false
		}
		filter, topic = filterRest, topicRest
	}
}

// nameOf makes the name of a Thing below base of a topic without its first
// levels: a part of each level, lower-cased, everything but letters of
// English, digits, _ and - made -, with n before what does not begin with a
// letter. Empty levels are left out.
func nameOf(topic string, strip int, base thing.Name) (thing.Name, *Skip) {
	name := make([]byte, 0, len(topic)+8)
	levels := 0
	for level := range strings.SplitSeq(topic, "/") {
		if level == "" {
			continue
		}
		if levels++; levels <= strip {
			continue
		}
		if len(name) > 0 {
			name = append(name, '.')
		}
		begin := len(name)
		for i, c := range level {
			switch {
			case c >= 'A' && c <= 'Z':
				c += 'a' - 'A'
			case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_', c == '-':
			default:
				c = '-'
			}
			if i == 0 && (c < 'a' || c > 'z') {
				name = append(name, 'n')
			}
			name = append(name, byte(c))
		}
		if n := len(name) - begin; n > maxPart {
			return "", skip(ReasonNS, "a part of the name has %d characters; taken are %d", n, maxPart)
		}
	}
	if levels < strip {
		return "", skip(ReasonNS, "the topic has %d levels; %d are to be left out", levels, strip)
	}
	whole := len(name)
	if base != "" && whole > 0 {
		whole += len(base) + 1
	}
	if whole > thing.MaxNameBytes {
		return "", skip(ReasonNS, "the name has %d bytes; taken are %d", whole, thing.MaxNameBytes)
	}
	return thing.Name(name), nil
}
