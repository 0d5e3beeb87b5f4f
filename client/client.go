package client

import (
	"log/slog"
	"time"
)

// DefaultBroker is where a broker is found that was started with no flag on
// this machine.
const DefaultBroker = "tcp://127.0.0.1:7954"

// DefaultPort is a broker's main port.
const DefaultPort = 7954

// The ports of a broker as offsets from its main port.
const (
	FeedOffset    = 0 // ZeroMQ PUB: updates, snapshots, heartbeats
	InputOffset   = 1 // ZeroMQ SUB and UDP: updates from adaptors
	HistoryOffset = 2 // ZeroMQ ROUTER: replay and directory
	HTTPOffset    = 3 // metrics and health
)

// maxPort is the highest main port: the others lie above it.
const maxPort = 65535 - HTTPOffset

// Options say where the broker is. The zero value is good.
type Options struct {
	// Broker is the URL of its main port, as tcp://HOST:PORT; HOST:PORT and
	// HOST are taken too. "" is DefaultBroker.
	Broker string
	// DialTimeout bounds how long a connection may take to be made, the
	// handshake included. 0 is 2.5 s.
	DialTimeout time.Duration
	// AnswerTimeout bounds how long the broker may take over one page of an
	// answer. 0 is 30 s.
	AnswerTimeout time.Duration
	// Logger gets what is worth knowing about connections; nil is silence.
	Logger *slog.Logger
}

// Client speaks to one broker. It holds no connection and may be used from
// several goroutines.
type Client struct {
	o Options
	// at is where the broker is.
	at endpoint
	// sendWait is SendWait, but in tests.
	sendWait time.Duration
}

// New checks the options; it connects to nothing. The error says what is
// wrong with the broker's URL.
func New(o Options) (*Client, error) {
	if o.Broker == "" {
		o.Broker = DefaultBroker
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = 2500 * time.Millisecond
	}
	if o.AnswerTimeout == 0 {
		o.AnswerTimeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	at, err := parseBroker(o.Broker)
	if err != nil {
		return nil, err
	}
	return &Client{o: o, at: at, sendWait: SendWait}, nil
}

// URL gives the broker's address as tcp://HOST:PORT with its main port.
func (c *Client) URL() string { return c.at.url() }
