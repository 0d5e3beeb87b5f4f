package client

import (
	"errors"
	"log/slog"
	"math/rand/v2"
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
	// HOST are taken too. "" is DefaultBroker, unless there is a Zone.
	Broker string
	// Zone, instead of Broker, is a domain whose SRV records
	// _thingsbus._tcp.ZONE name the brokers. They are looked up anew for
	// each connection, and tried by priority and weight until one answers.
	Zone string
	// Resolver looks the records up; nil is net.DefaultResolver. If it is a
	// *net.Resolver, such as those of NewResolver, it looks up the
	// addresses of brokers' hosts too.
	Resolver Resolver
	// DialTimeout bounds how long a connection may take to be made, the
	// handshake included. 0 is 2.5 s.
	DialTimeout time.Duration
	// AnswerTimeout bounds how long the broker may take over one page of an
	// answer. 0 is 30 s.
	AnswerTimeout time.Duration
	// MaxDirectory bounds the memory that a Directory takes, in bytes, by a
	// rough estimate: a broker that is broken, or none, may make up Things
	// without end. What there is no room for is not taken in, and counted in
	// DirectoryState.NoRoom. It bounds a snapshot of Feed, too. 0 is 1 GiB.
	MaxDirectory int64
	// Token is the one of tbhist serve --http-token: what Forget, Stats and
	// Backup need to be answered by a broker on another machine. It is sent
	// as it is, in plain text.
	Token string
	// Logger gets what is worth knowing about connections; nil is silence.
	Logger *slog.Logger
}

// Client speaks to one broker. It holds no connection, but for those of the
// methods at work, and may be used from several goroutines.
type Client struct {
	o Options
	// at is where the broker is; zero if the zone is to be asked.
	at endpoint
	// These are the constants of their names, but in tests.
	sendWait, lookupWait time.Duration
	maxEarly             int
	maxAnswer            int64
	// intn is rand.IntN, but in tests.
	intn func(n int) int
	// directory is that of all Things.
	directory *Directory
}

// New checks the options; it connects to nothing and looks nothing up. The
// error says what is wrong with the broker's URL or the zone.
func New(o Options) (*Client, error) {
	if o.Broker != "" && o.Zone != "" {
		return nil, errors.New("a broker and a zone are given: a zone names its brokers itself")
	}
	if o.Broker == "" {
		o.Broker = DefaultBroker
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = 2500 * time.Millisecond
	}
	if o.AnswerTimeout == 0 {
		o.AnswerTimeout = 30 * time.Second
	}
	if o.MaxDirectory == 0 {
		o.MaxDirectory = 1 << 30
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{o: o, sendWait: SendWait, lookupWait: lookupWait, maxEarly: maxEarly, maxAnswer: maxAnswer, intn: rand.IntN}
	var err error
	if o.Zone != "" {
		c.o.Zone, err = parseZone(o.Zone)
	} else {
		c.at, err = parseBroker(o.Broker)
	}
	if err != nil {
		return nil, err
	}
	c.directory = newDirectory(c, "")
	return c, nil
}

// URL gives the broker's address as tcp://HOST:PORT with its main port. With
// a zone it gives srv:_thingsbus._tcp.ZONE: what is asked for the address
// each time, for which broker answers may change.
func (c *Client) URL() string {
	if c.at == (endpoint{}) {
		return "srv:" + RecordName(c.o.Zone)
	}
	return c.at.url()
}
