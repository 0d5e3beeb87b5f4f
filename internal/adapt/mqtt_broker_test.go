package adapt

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// mqttBroker is an MQTT broker within the test.
type mqttBroker struct {
	t      *testing.T
	addr   string
	tls    *tls.Config
	ledger *auth.Ledger
	server *mochi.Server
}

// startMQTT starts one on a free port; everybody may do everything unless a
// ledger says otherwise.
func startMQTT(t *testing.T, config *tls.Config, ledger *auth.Ledger) *mqttBroker {
	t.Helper()
	if ledger == nil {
		ledger = &auth.Ledger{Auth: auth.AuthRules{{Allow: true}}}
	}
	b := &mqttBroker{t: t, addr: "127.0.0.1:0", tls: config, ledger: ledger}
	b.start()
	t.Cleanup(func() { b.stop() })
	return b
}

func (b *mqttBroker) start() {
	b.t.Helper()
	ln, err := net.Listen("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.addr = ln.Addr().String()
	if b.tls != nil {
		ln = tls.NewListener(ln, b.tls)
	}
	b.server = mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if err := errors.Join(
		b.server.AddHook(new(auth.Hook), &auth.Options{Ledger: b.ledger}),
		b.server.AddListener(listeners.NewNet("test", ln)),
		b.server.Serve(),
	); err != nil {
		b.t.Fatal(err)
	}
}

func (b *mqttBroker) stop() {
	if err := b.server.Close(); err != nil {
		b.t.Error(err)
	}
}

func (b *mqttBroker) publish(topic, payload string, qos byte) {
	b.t.Helper()
	if err := b.server.Publish(topic, []byte(payload), false, qos); err != nil {
		b.t.Fatal(err)
	}
}

func (b *mqttBroker) retain(topic, payload string) {
	b.t.Helper()
	if err := b.server.Publish(topic, []byte(payload), true, 1); err != nil {
		b.t.Fatal(err)
	}
}

// unacknowledged tells how many messages are kept for a session.
func (b *mqttBroker) unacknowledged(id string) int {
	c, ok := b.server.Clients.Get(id)
	if !ok {
		return 0
	}
	return c.State.Inflight.Len()
}

// cut breaks the connection of a session, and gives the connection.
func (b *mqttBroker) cut(id string) *mochi.Client {
	b.t.Helper()
	c, ok := b.server.Clients.Get(id)
	if !ok {
		b.t.Fatalf("%s has no session", id)
	}
	c.Stop(errors.New("cut by the test"))
	return c
}

// bridge makes a way from b into tg, for topics or else all of them.
func (b *mqttBroker) bridge(tg *target, topics ...string) *MQTT {
	if len(topics) == 0 {
		topics = []string{"#"}
	}
	return &MQTT{
		Addr: b.addr, ClientID: "bridge", Topics: topics, Queue: 1000, Bridge: tg.bridge,
		Logger: slog.New(slog.NewTextHandler(b.t.Output(), nil)),
	}
}

// connected waits until tg's source is there.
func (tg *target) connected() {
	tg.t.Helper()
	tg.eventually("connected to the source", func() bool { return tg.bridge.Sample().Sources == 1 })
}

// expectMQTT waits for an update that is of now.
func (tg *target) expectMQTT(ns, data string) {
	tg.t.Helper()
	tg.expectPrefix(`{"type": "thing_update", "ns": "` + ns + `", "documentation_url": null, "data": ` + data + `, "ts": `)
}

// runUntil runs a way in until stop is called.
func (tg *target) runUntil(way *MQTT) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- way.Run(ctx) }()
	return func() {
		tg.t.Helper()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			tg.t.Errorf("Run: %v", err)
		}
	}
}

// certificates gives a certificate for 127.0.0.1 and the authority that
// signed it.
func certificates(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	sign := func(template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			parent, by = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	from, until := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	ca, caKey := sign(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	cert, key := sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "mqtt"}, NotBefore: from, NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, ca, caKey)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}, pool
}

// contextEnded is one that has ended.
func contextEnded() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx, cancel
}

func cutPort(t *testing.T, addr string) (host string, port int) {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.IP.String(), a.Port
}

// logLines collects a log.
type logLines struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
