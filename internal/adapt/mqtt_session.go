package adapt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// MQTTRefusedError tells that the MQTT broker does not want this program.
type MQTTRefusedError struct {
	Addr string
	Why  string
}

// Error says why, and what to do.
func (e *MQTTRefusedError) Error() string {
	return fmt.Sprintf("the MQTT broker at %s %s", e.Addr, e.Why)
}

// How a connection is kept alive, and how long its beginning may take.
const (
	mqttKeepAlive   = 30 * time.Second
	mqttPingTimeout = 10 * time.Second
	mqttConnectWait = 10 * time.Second
	mqttEndWait     = 2 * time.Second
	mqttLinger      = time.Second // part of mqttEndWait
)

// subscriptionRefused is what the MQTT broker grants when it does not.
const subscriptionRefused = 0x80

// errAgain asks for a new connection, so that the MQTT broker sends again
// what there was no room for.
var errAgain = errors.New("there is room again")

// session has one connection until it is lost or ctx ends; then drain sends
// on what was taken. served tells that it was subscribed.
func (m *MQTT) session(ctx context.Context, q *intake, drain func()) (served bool, err error) {
	s := &mqttSession{}
	s.alive.Store(true)
	lost := make(chan error, 1)
	established := func() bool { return true }
	o := mqtt.NewClientOptions().AddBroker("tcp://" + m.Addr).SetClientID(m.ClientID).
		SetUsername(m.User).SetPassword(m.Password).
		SetProtocolVersion(4).SetCleanSession(false).SetAutoAckDisabled(true).SetOrderMatters(true).
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(mqttConnectWait).
		SetKeepAlive(mqttKeepAlive).SetPingTimeout(mqttPingTimeout).
		SetDefaultPublishHandler(func(_ mqtt.Client, msg mqtt.Message) { q.push(s, msg) }).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) {
			s.alive.Store(false)
			lost <- err
		}).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
			conn, err := m.dial(ctx)
			if err == nil {
				established = context.AfterFunc(ctx, func() { _ = conn.Close() })
				conn = &lingering{Conn: conn}
			}
			return conn, err
		})
	c := mqtt.NewClient(o)
	connecting := c.Connect()
	<-connecting.Done()
	if err := connecting.Error(); err != nil {
		established()
		return false, m.refusal(err)
	}
	defer func() {
		s.alive.Store(false)
		c.Disconnect(uint(mqttEndWait.Milliseconds()))
	}()
	if !established() {
		return false, ctx.Err()
	}
	known := false
	if t, ok := connecting.(*mqtt.ConnectToken); ok {
		known = t.SessionPresent()
	}
	q.begin(s, known)
	if !known || !m.connected {
		if err := m.subscribe(ctx, c, lost); err != nil {
			return false, err
		}
	}
	m.connected = true
	m.Bridge.SourceUp()
	defer m.Bridge.SourceDown()
	m.Logger.Info("connected to the source", "source", m.Addr, "client_id", m.ClientID, "resumed", known)
	select {
	case err := <-lost:
		return true, fmt.Errorf("connection lost: %w", err)
	case <-q.again:
		return true, errAgain
	case <-ctx.Done():
		drain()
		return true, ctx.Err()
	}
}

func (m *MQTT) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: mqttConnectWait}
	if m.TLS == nil {
		return d.DialContext(ctx, "tcp", m.Addr)
	}
	return (&tls.Dialer{NetDialer: &d, Config: m.TLS}).DialContext(ctx, "tcp", m.Addr)
}

// lingering is a connection that is closed only when the MQTT broker has
// closed its side, and thus read all. A connection that is closed while
// messages come in is reset: the MQTT broker would pass over the
// acknowledgements, and send those messages again next time.
type lingering struct {
	net.Conn
	once sync.Once
	err  error
}

// Close waits for mqttLinger at most.
func (l *lingering) Close() error {
	l.once.Do(func() {
		if c, ok := l.Conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
			_ = l.SetReadDeadline(time.Now().Add(mqttLinger)) // else it is closed, and Copy ends
			_, _ = io.Copy(io.Discard, l.Conn)                // however it ends, it is closed now
		}
		l.err = l.Conn.Close()
	})
	return l.err
}

// refusal makes an *MQTTRefusedError of what trying again does not help.
func (m *MQTT) refusal(err error) error {
	why := ""
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		why = "wants a user and a password: set TBHIST_MQTT_USER and TBHIST_MQTT_PASSWORD, or --password-file"
		if m.User != "" {
			why = fmt.Sprintf("refuses the user %q or the password", m.User)
		}
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		why = fmt.Sprintf("refuses the client id %q; --client-id names another", m.ClientID)
	case errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		why = "does not speak MQTT 3.1.1"
	default:
		return err
	}
	return &MQTTRefusedError{Addr: m.Addr, Why: why}
}

// subscribe asks for all topics.
func (m *MQTT) subscribe(ctx context.Context, c mqtt.Client, lost chan error) error {
	topics := make(map[string]byte)
	for _, topic := range m.Topics {
		topics[topic] = 1
	}
	asked := c.SubscribeMultiple(topics, nil)
	late := time.NewTimer(mqttConnectWait)
	defer late.Stop()
	select {
	case <-asked.Done():
	case err := <-lost:
		return fmt.Errorf("connection lost: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		return errors.New("the subscription is not answered")
	}
	if err := asked.Error(); err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	var refused []string
	if t, ok := asked.(*mqtt.SubscribeToken); ok {
		granted := t.Result()
		for _, topic := range m.Topics {
			if granted[topic] == subscriptionRefused {
				refused = append(refused, topic)
			}
		}
	}
	if len(refused) > 0 {
		return &MQTTRefusedError{Addr: m.Addr, Why: fmt.Sprintf("does not let the user %q read %s", m.User, strings.Join(refused, ", "))}
	}
	return nil
}
