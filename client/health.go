package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Health asks whether the broker is ready to serve and well. nil means yes;
// otherwise the error has the broker's own reason, or is a NoBrokerError.
func (c *Client) Health(ctx context.Context) error {
	return c.each(ctx, func(at endpoint) error {
		for _, path := range []string{"/readyz", "/healthz"} {
			if err := c.probe(ctx, at, path); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *Client) probe(ctx context.Context, at endpoint, path string) error {
	asking, cancel := context.WithTimeout(ctx, c.o.DialTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(asking, http.MethodGet, "http://"+at.addr(HTTPOffset)+path, nil)
	if err != nil {
		return fmt.Errorf("asking for the broker's health: %w", err)
	}
	// A transport of its own: no proxy, and no connection left behind.
	dialer := net.Dialer{Resolver: c.hosts()}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}}).Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return noBroker(at, HTTPOffset, err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	reason, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if err != nil || len(strings.TrimSpace(string(reason))) == 0 {
		return fmt.Errorf("the broker answers %s to %s", visible(answer.Status), path)
	}
	return errors.New("the broker is not well: " + visible(strings.TrimSpace(string(reason))))
}
