package adapt

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"time"

	"tbhist/client"
	"tbhist/internal/backoff"
	"tbhist/thing"
)

// MQTT takes messages of an MQTT broker (MQTT 3.1.1, which all of them
// speak). It subscribes with QoS 1 in a session that the MQTT broker keeps,
// and acknowledges a message when the network has taken its update for the
// broker, or when it is skipped. So the MQTT broker keeps what is published
// with QoS 1 or 2 while this program is away, and sends again what it had not
// acknowledged: such an update comes once at least, twice at times.
//
// What the network has taken, and the broker had not read when it died, is
// lost, as with any Adaptor.
type MQTT struct {
	// Addr is the MQTT broker's HOST:PORT.
	Addr string
	// TLS, unless nil, secures the connection.
	TLS *tls.Config
	// ClientID names the session; see MQTTClientID.
	ClientID       string
	User, Password string
	// Topics are what to subscribe to; CheckTopic has passed them.
	Topics []string
	// Base is the Thing below which all data is put: that of the Adaptor.
	Base thing.Name
	// Strip is how many levels of a topic are left out of the name.
	Strip int
	// Retained takes retained messages too.
	Retained bool
	Rules    Rules
	// Queue is how many messages may wait for the broker.
	Queue  int
	Bridge *Bridge
	Logger *slog.Logger

	connected bool // once at least
	names     collisions
}

// MQTTClientID makes a client id that is the same with every start, of the
// host's name, the namespace and the topics. It has 22 letters and digits, as
// every MQTT broker takes them.
func MQTTClientID(host string, ns thing.Name, topics []string) string {
	sum := sha256.Sum256([]byte(host + "\n" + string(ns) + "\n" + strings.Join(topics, "\n")))
	return "tbhist" + hex.EncodeToString(sum[:8])
}

// drainWait is how long the end of Run may take: until then what was taken
// is sent on and acknowledged.
const drainWait = 3 * time.Second

// The pauses between two attempts to reach the MQTT broker.
const (
	mqttLowest  = 200 * time.Millisecond
	mqttHighest = 10 * time.Second
)

// Run takes messages until ctx ends; the error then is that of ctx. Before it
// was connected for the first time, it also ends when the MQTT broker refuses
// it, with an *MQTTRefusedError.
func (m *MQTT) Run(ctx context.Context) error {
	q := newIntake(m.Queue, m.Bridge)
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		m.send(sending, q)
	}()
	drain := func() {
		q.close()
		if m.Bridge.Connected() {
			late := time.NewTimer(drainWait)
			defer late.Stop()
			select {
			case <-sent:
			case <-late.C:
			}
		}
		stop()
		<-sent
	}
	err := m.connections(ctx, q, drain)
	drain()
	if fleeting, kept := q.left(); fleeting+kept > 0 {
		m.Bridge.Held(-fleeting - kept)
		m.Bridge.Dropped(fleeting)
		m.Logger.Warn("ended before all was sent", "lost", fleeting, "kept", kept)
	}
	return err
}

// connections has one connection after the other.
func (m *MQTT) connections(ctx context.Context, q *intake, drain func()) error {
	retry := backoff.Backoff{Lowest: mqttLowest, Highest: mqttHighest}
	for told := false; ; {
		began := time.Now()
		served, err := m.session(ctx, q, drain)
		refused := (*MQTTRefusedError)(nil)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errAgain):
			retry.Reset()
			continue
		case errors.As(err, &refused) && !m.connected:
			return err
		}
		if served && time.Since(began) > mqttHighest {
			retry.Reset()
		}
		level := slog.LevelWarn
		if told && !served {
			level = slog.LevelDebug
		}
		told = true
		m.Logger.Log(ctx, level, "not connected to the source, trying on", "source", m.Addr, "err", err)
		if err := retry.Pause(ctx); err != nil {
			return err
		}
	}
}

// send sends on what comes in until ctx ends, or the intake is closed and
// empty.
func (m *MQTT) send(ctx context.Context, q *intake) {
	for {
		batch, err := q.take(ctx)
		if err != nil {
			return
		}
		for _, a := range batch {
			if m.take(ctx, a) != nil {
				return
			}
		}
		if m.Bridge.Flush(ctx) != nil {
			return
		}
		for _, a := range batch {
			q.settle(a)
		}
	}
}

// take sends a message on, or skips it.
func (m *MQTT) take(ctx context.Context, a *arrival) error {
	update, skipped := m.update(a)
	if skipped != nil {
		m.Bridge.Skip(skipped, a.topic, a.payload)
		return nil
	}
	return m.Bridge.Send(ctx, update, a.topic, a.payload)
}

// update makes an update of a message.
func (m *MQTT) update(a *arrival) (client.Message, *Skip) {
	var none client.Message
	switch {
	case !m.asked(a.topic):
		return none, &Skip{Reason: ReasonFilter}
	case a.retained && !m.Retained:
		return none, &Skip{Reason: ReasonRetained}
	}
	data, skipped := payloadData(a.payload)
	if skipped != nil {
		return none, skipped
	}
	name, skipped := nameOf(a.topic, m.Strip, m.Base)
	if skipped != nil {
		return none, skipped
	}
	update, skipped := m.Rules.Take(data)
	if skipped != nil {
		return none, skipped
	}
	if other, ok := m.names.note(name, a.topic); ok {
		m.Logger.Warn("two topics are one Thing", "thing", string(name), "topic", a.topic, "other", other)
	}
	update.Name = name
	if update.TS == nil {
		now := thing.MicrosOf(a.at).Seconds()
		update.TS = &now
	}
	return update, nil
}

// asked tells whether one of Topics asks for it: a session may have
// subscriptions of an earlier start.
func (m *MQTT) asked(topic string) bool {
	for _, filter := range m.Topics {
		if matches(filter, topic) {
			return true
		}
	}
	return false
}

// collisions finds topics that have become the same name. The zero value is
// ready.
type collisions struct {
	first map[thing.Name]string // "" when it was told
}

// maxNames is how many names are looked at.
const maxNames = 100_000

// note gives the other topic of a name, once.
func (c *collisions) note(name thing.Name, topic string) (other string, ok bool) {
	if c.first == nil {
		c.first = make(map[thing.Name]string)
	}
	first, known := c.first[name]
	switch {
	case !known:
		if len(c.first) < maxNames {
			c.first[name] = topic
		}
		return "", false
	case first == "" || first == topic:
		return "", false
	}
	c.first[name] = ""
	return first, true
}
