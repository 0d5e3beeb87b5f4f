package cli

import (
	"errors"
	"net"
	"os"
)

// What systemd is told of a service with Type=notify.
const (
	notifyReady    = "READY=1"
	notifyStopping = "STOPPING=1"
	notifyAlive    = "WATCHDOG=1"
)

// notify tells systemd how the service is. Without systemd it does nothing.
func notify(state string) error {
	conn, err := dialNotify()
	if conn == nil || err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return errors.Join(err, conn.Close())
}

// dialNotify connects to systemd; nil without one.
func dialNotify() (*net.UnixConn, error) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil, nil
	}
	if path[0] == '@' { // Linux's abstract sockets have no file
		path = "\x00" + path[1:]
	}
	return net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
}
