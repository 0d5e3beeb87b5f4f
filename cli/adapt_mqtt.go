package cli

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/internal/adapt"
)

func (p *program) adaptMQTTCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "mqtt",
		Usage: "take the messages of an MQTT broker",
		Description: `Subscribes to topics of an MQTT broker (Mosquitto, Home Assistant's, EMQX, …)
and makes an update of each message:

  tbhist adapt mqtt -s tcp://mqtt-broker:1883 --topic 'zigbee2mqtt/#' --ns home

A topic becomes a name: / becomes ., letters become small, other characters -,
and n is put before a part that does not begin with a letter, so that
zigbee2mqtt/Living Room/0x01 is home.zigbee2mqtt.living-room.n0x01. A payload
that is JSON is the data; else a number is one, text is a string, and what is
no text a string of base64. Retained messages are passed over, as they may be
of any age, unless --retained is given.

The MQTT broker keeps messages of QoS 1 and 2 while this program is away, and
sends again what was not on its way to the broker when it ended: it knows this
program by --client-id, which has to be the same with each start, and of one
program at a time. When more than --queue updates wait for the broker, the
oldest of QoS 0 are dropped and counted; those of QoS 1 and 2 then wait in the
MQTT broker.

User and password are read from TBHIST_MQTT_USER and TBHIST_MQTT_PASSWORD, or
from --password-file.`,
		Flags: append([]urfave.Flag{
			aliased(text("source", "", "`URL` of the MQTT broker: tcp://HOST[:1883], or with TLS ssl://HOST[:8883]; mqtt:// and mqtts:// are the same"), "s"),
			list("topic", "", "`TOPIC` to subscribe to, with + and # as in MQTT; may be repeated"),
			text("ns", "", "`NAMESPACE` of the Thing to put data below; '' is the root"),
			text("strip", "0", "`COUNT` of levels at the beginning of topics to leave out of the name"),
			toggle("retained", false, "take retained messages too, as if they were of now"),
			text("client-id", "", "`ID` of this program at the MQTT broker (default: one made of host name, --ns and --topic)"),
			text("password-file", "", "`FILE` with one line, USER:PASSWORD"),
			text("ca", "", "`FILE` with the certificates (PEM) to trust instead of the system's"),
			text("cert", "", "`FILE` with this program's certificate (PEM), for MQTT brokers that ask for one"),
			text("key", "", "`FILE` with the key (PEM) that goes with --cert"),
		}, slices.Concat(ruleFlags(), adaptFlags())...),
		Action: p.adaptMQTT,
	}
}

func (p *program) adaptMQTT(c *urfave.Context) error {
	way := &adapt.MQTT{Retained: c.Bool("retained")}
	var err error
	if way.Rules, err = rulesOf(c); err != nil {
		return err
	}
	if !c.IsSet("ns") {
		return usagef("adapt mqtt needs a Thing to put data below: --ns NAMESPACE, --ns '' for the root")
	}
	if way.Base, err = nsOf(c); err != nil {
		return err
	}
	if err := mqttTopics(c, way); err != nil {
		return err
	}
	if err := mqttSource(c, way); err != nil {
		return err
	}
	if way.User, way.Password, err = mqttUser(c.String("password-file")); err != nil {
		return err
	}
	if err := urlToBroker(c); err != nil {
		return err
	}
	queue, err := countOf(c, "queue")
	if err != nil {
		return err
	}
	way.Queue = int(min(queue, 1<<30))
	return p.adapt(c, client.AdaptorOptions{Namespace: way.Base, DocumentationURL: c.String("documentation")},
		func(b *adapt.Bridge, _ *client.Client, log *slog.Logger) runner {
			way.Bridge, way.Logger = b, log
			return way
		})
}

// mqttTopics reads what to subscribe to, and as whom.
func mqttTopics(c *urfave.Context, way *adapt.MQTT) error {
	way.Topics = c.StringSlice("topic")
	if len(way.Topics) == 0 {
		return usagef("adapt mqtt needs something to subscribe to: --topic TOPIC, --topic '#' for all")
	}
	for _, topic := range way.Topics {
		if err := adapt.CheckTopic(topic); err != nil {
			return usagef("--topic: %v", err)
		}
	}
	var err error
	if way.Strip, err = strconv.Atoi(c.String("strip")); err != nil || way.Strip < 0 {
		return usagef("--strip: %q is not a number of levels", c.String("strip"))
	}
	if way.ClientID = c.String("client-id"); way.ClientID == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("this host's name, which the client id is made of, cannot be found (--client-id names one): %w", err)
		}
		way.ClientID = adapt.MQTTClientID(host, way.Base, way.Topics)
	}
	return nil
}

// The ports of MQTT.
const (
	mqttPort    = 1883
	mqttTLSPort = 8883
)

// mqttSource reads where the MQTT broker is.
func mqttSource(c *urfave.Context, way *adapt.MQTT) error {
	source := c.String("source")
	scheme, rest, ok := strings.Cut(source, "://")
	if !ok {
		scheme, rest = "tcp", source
	}
	port, secure := mqttPort, false
	switch scheme {
	case "tcp", "mqtt":
	case "ssl", "tls", "mqtts":
		port, secure = mqttTLSPort, true
	default:
		return usagef("--source: %q is neither tcp://HOST:PORT nor ssl://HOST:PORT", source)
	}
	switch {
	case source == "":
		return usagef("adapt mqtt needs an MQTT broker to read from: -s tcp://HOST:1883")
	case strings.Contains(rest, "@"):
		return usagef("--source: user and password are not taken from the command line, where others can read them: set TBHIST_MQTT_USER and TBHIST_MQTT_PASSWORD, or --password-file")
	}
	host, port, err := parseEndpoint(strings.TrimSuffix(rest, "/"), port)
	if err != nil {
		return usagef("--source: %v", err)
	}
	way.Addr = net.JoinHostPort(host, strconv.Itoa(port))
	if !secure {
		for _, flag := range []string{"ca", "cert", "key"} {
			if c.String(flag) != "" {
				return usagef("--%s is for TLS, and %s has none: ssl://%s has", flag, source, rest)
			}
		}
		return nil
	}
	way.TLS, err = mqttTLS(host, c.String("ca"), c.String("cert"), c.String("key"))
	return err
}

func mqttTLS(host, ca, cert, key string) (*tls.Config, error) {
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca: %s has no certificate in PEM", ca)
		}
	}
	if (cert == "") != (key == "") {
		return nil, usagef("--cert and --key go together")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// mqttUser finds user and password.
func mqttUser(file string) (user, password string, err error) {
	user, password = os.Getenv("TBHIST_MQTT_USER"), os.Getenv("TBHIST_MQTT_PASSWORD")
	switch {
	case file == "" && user == "" && password != "":
		return "", "", usagef("TBHIST_MQTT_PASSWORD is set and TBHIST_MQTT_USER is not")
	case file == "":
		return user, password, nil
	case user != "" || password != "":
		return "", "", usagef("--password-file and TBHIST_MQTT_USER or TBHIST_MQTT_PASSWORD are both given: one is enough")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", "", fmt.Errorf("--password-file: %w", err)
	}
	user, password, ok := strings.Cut(strings.TrimRight(string(text), "\r\n"), ":")
	if !ok || user == "" || strings.ContainsAny(password, "\r\n") {
		return "", "", fmt.Errorf("--password-file: %s is not one line USER:PASSWORD", file)
	}
	return user, password, nil
}
