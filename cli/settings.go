package cli

import (
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

	"tbhist/client"
	"tbhist/internal/access"
	"tbhist/store"
	"tbhist/store/bolt"
	"tbhist/thing"
)

// settings are what a broker is started with, read and checked.
type settings struct {
	host  string // "" for all addresses
	port  int    // the main port; 0 seeks one
	db    string
	rules []store.Rule
	maxDB int64

	gather           time.Duration
	snapshotInterval time.Duration
	snapshotExpire   time.Duration
	maxLag           time.Duration // negative for no bound
	writeDeadline    time.Duration

	deny          []thing.Name // with all below them
	inputRate     int          // updates a second from one address; 0 for no bound
	maxThings     int
	maxUpdate     int // bytes
	metricsThings int

	allowInput, allowOutput *access.List
	httpToken               string // "" for none

	logLevel slog.Level
	logJSON  bool

	now func() time.Time // the time of day; nil: time.Now, but in tests
}

const defaultRing = 100_000

// defaultMaxDB is half of the file size that a 32-bit process can map with
// room for everything else.
func defaultMaxDB() string {
	if math.MaxInt == math.MaxInt32 {
		return "768MiB"
	}
	return "2GiB"
}

// maxUpdateLimit bounds --max-update: an update must fit a frame of the feed.
const maxUpdateLimit = 64 << 20

// serveFlags are the flags of serve that a configuration file can set too.
func serveFlags() []urfave.Flag {
	value := func(name, def, usage string) urfave.Flag {
		return altsrc.NewStringFlag(text(name, def, usage))
	}
	list := func(name, usage, def string) urfave.Flag {
		return altsrc.NewStringSliceFlag(&urfave.StringSliceFlag{Name: name, Usage: usage, DefaultText: def, EnvVars: envName(name)})
	}
	db := text("db", "", "`FILE` that holds the history")
	db.DefaultText = "tbhist.db, in systemd's state directory if there is one"
	return []urfave.Flag{
		value("listen", ":"+strconv.Itoa(client.DefaultPort), "`HOST:PORT` with the main port; input, history and HTTP follow at PORT+1, +2, +3; port 0 seeks free ones"),
		altsrc.NewStringFlag(db),
		value("ring", strconv.Itoa(defaultRing), "how many updates to keep of each Thing, a `COUNT`"),
		list("keep", "limits for a namespace and all below it, `NS=COUNT[,AGE[,BYTES]]`; the most specific one counts; a part left empty comes from the next less specific; may be repeated", "none"),
		value("max-db", defaultMaxDB(), "`SIZE` that the file may have; the oldest updates go first"),
		value("gather", "0", "`DURATION` for which updates gather before they are committed; 1s spares SD cards"),
		value("snapshot-interval", "15s", "`DURATION` between snapshots on the live feed"),
		value("snapshot-expire", "0", "`DURATION` after which a quiet Thing is left out of snapshots; 0: never"),
		value("max-things", "10000", "how many Things to take in, a `COUNT`; new ones beyond are refused"),
		list("deny", "namespace to refuse, with all below it, `NS`; may be repeated; what history has of it stays until it is forgotten", "none"),
		value("input-rate", "0", "how many updates a second to take from one address, a `COUNT`; over ZeroMQ what is beyond waits with its sender, by UDP it is refused; 0: no bound"),
		value("max-update", "1MiB", "`SIZE` of the largest update to take in"),
		value("max-lag", "60s", "`DURATION` that a subscriber may be behind before it is moved to the present; 0: no bound"),
		value("write-deadline", "10s", "`DURATION` after which a subscriber that takes nothing is disconnected"),
		value("metrics-things", "5000", "how many Things have metrics of their own, a `COUNT`"),
		list("allow-input", "networks that may send, `NETWORKS`: local, any, 192.0.2.0/24 or an address", "local"),
		list("allow-output", "networks that may read, `NETWORKS`, as for --allow-input", "local"),
		value("http-token", "", "`TOKEN` that lets upkeep be asked for from other machines (tbhist forget, db stats, db backup); 16 characters at least; better in $TBHIST_HTTP_TOKEN or the file than here, where ps shows it"),
		value("log-format", "text", "`FORMAT` of the log: text or json"),
		value("log-level", "info", "`LEVEL` from which on to log: debug, info, warn or error"),
	}
}

// settingsReader reads flags until the first mistake, which it keeps.
type settingsReader struct {
	c   *urfave.Context
	err error
}

func (r *settingsReader) fail(flag string, err error) {
	if r.err == nil {
		r.err = usagef("--%s: %v", flag, err)
	}
}

// value gives a flag's text. One that was set to nothing, as an empty
// environment variable does, has its default.
func (r *settingsReader) value(flag, def string) string {
	if s := strings.TrimSpace(r.c.String(flag)); s != "" {
		return s
	}
	return def
}

func (r *settingsReader) duration(flag, def string, least time.Duration) time.Duration {
	d, err := parseDuration(r.value(flag, def))
	if err != nil {
		r.fail(flag, err)
	} else if d < least {
		r.fail(flag, usagef("%s is too short; the shortest is %s", r.value(flag, def), least))
	}
	return d
}

func (r *settingsReader) size(flag, def string, least, most int64) int64 {
	n, err := parseSize(r.value(flag, def))
	switch {
	case err != nil:
		r.fail(flag, err)
	case n < least:
		r.fail(flag, usagef("%s is too small; the least is %s", r.value(flag, def), formatSize(least)))
	case n > most:
		r.fail(flag, usagef("%s is too much; the most is %s", r.value(flag, def), formatSize(most)))
	}
	return n
}

func (r *settingsReader) count(flag, def string, least int) int {
	n, err := strconv.Atoi(r.value(flag, def))
	if err != nil || n < least {
		r.fail(flag, usagef("%q is not a number from %d", r.value(flag, def), least))
	}
	return n
}

func (r *settingsReader) networks(flag string) *access.List {
	var items []string
	for _, s := range r.c.StringSlice(flag) {
		items = append(items, strings.Fields(s)...)
	}
	if len(items) == 0 {
		items = []string{"local"}
	}
	list, err := access.Parse(items)
	if err != nil {
		r.fail(flag, err)
	}
	return list
}

// token reads a secret; what is said of it never shows it.
func (r *settingsReader) token(flag string) string {
	token := r.value(flag, "")
	const least = 16
	switch err := checkToken(token); {
	case token == "":
	case len(token) < least:
		r.fail(flag, usagef("a token has %d characters at least; openssl rand -hex 16 makes one", least))
	case err != nil:
		r.fail(flag, err)
	}
	return token
}

// checkToken says what is wrong with a secret that goes into a header.
func checkToken(token string) error {
	const most = 1024
	if len(token) > most || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return usagef("a token has letters, digits and signs of ASCII, %d at most", most)
	}
	return nil
}

// names reads namespaces, each of which stands for all below it too.
func (r *settingsReader) names(flag string) (names []thing.Name) {
	for _, s := range r.c.StringSlice(flag) {
		for _, item := range strings.Fields(s) {
			name, err := thing.ParseName(item)
			if above := strings.TrimRight(item, ".*"); err != nil && above != item && above != "" && thing.ValidName(above) {
				err = usagef("%q: a namespace stands for all below it too: say %s", item, above)
			} else if err != nil {
				err = usagef("%q is no namespace: taken is %s", item, `parts of a-z, 0-9, "_" and "-" that begin with a letter, joined by "."`)
			}
			if err != nil {
				r.fail(flag, err)
			} else if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// readSettings reads the flags of serve.
func readSettings(c *urfave.Context) (settings, error) {
	r := &settingsReader{c: c}
	s := settings{
		db:               r.value("db", defaultDB()),
		maxDB:            r.size("max-db", defaultMaxDB(), bolt.MinMaxDB, math.MaxInt),
		gather:           r.duration("gather", "0", 0),
		snapshotInterval: r.duration("snapshot-interval", "15s", 100*time.Millisecond),
		snapshotExpire:   r.duration("snapshot-expire", "0", 0),
		maxLag:           r.duration("max-lag", "60s", 0),
		writeDeadline:    r.duration("write-deadline", "10s", time.Second),
		deny:             r.names("deny"),
		inputRate:        r.count("input-rate", "0", 0),
		maxThings:        r.count("max-things", "10000", 1),
		maxUpdate:        int(r.size("max-update", "1MiB", 64, maxUpdateLimit)),
		metricsThings:    r.count("metrics-things", "5000", 0),
		allowInput:       r.networks("allow-input"),
		allowOutput:      r.networks("allow-output"),
		httpToken:        r.token("http-token"),
	}
	if s.maxLag == 0 {
		s.maxLag = -1
	}
	ring, err := parseCount(r.value("ring", strconv.Itoa(defaultRing)))
	if err != nil {
		r.fail("ring", err)
	}
	if s.host, s.port, err = parseListen(r.value("listen", ":"+strconv.Itoa(client.DefaultPort))); err != nil {
		r.fail("listen", err)
	}
	switch f := r.value("log-format", "text"); f {
	case "text", "json":
		s.logJSON = f == "json"
	default:
		r.fail("log-format", usagef("%q is neither text nor json", f))
	}
	if level := r.value("log-level", "info"); s.logLevel.UnmarshalText([]byte(level)) != nil {
		r.fail("log-level", usagef("%q is none of debug, info, warn, error", level))
	}
	if r.err != nil {
		return settings{}, r.err
	}
	s.rules, err = ringRules(ring, c.IsSet("ring"), c.StringSlice("keep"))
	return s, err
}

// parseListen reads the host and main port to listen on.
func parseListen(s string) (host string, port int, err error) {
	host, number, err := net.SplitHostPort(s)
	if err != nil {
		if strings.ContainsAny(s, ":[]") {
			return "", 0, usagef("%q is not HOST:PORT", s)
		}
		host, number = s, strconv.Itoa(client.DefaultPort)
		if _, err := strconv.Atoi(s); err == nil {
			host, number = "", s
		}
	}
	const most = 65535 - client.HTTPOffset
	if port, err = strconv.Atoi(number); err != nil || port < 0 || port > most {
		return "", 0, usagef("the main port %q is not in 0…%d", number, most)
	}
	return host, port, nil
}

// defaultDB is the history of a broker started without --db.
func defaultDB() string {
	// systemd may give several directories; the first is the unit's own.
	dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	return filepath.Join(dir, "tbhist.db")
}
