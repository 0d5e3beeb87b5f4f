package publish

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"tbhist/internal/access"
	"tbhist/internal/wire"
)

// gate decides who may ask for upkeep.
type gate struct {
	token string // "" lets nobody in from elsewhere
	log   *access.Throttle[netip.Addr]
}

const (
	gateLogEvery = time.Minute
	gateLogKeys  = 256
)

func newGate(token string) *gate {
	return &gate{token: token, log: access.NewThrottle[netip.Addr](gateLogEvery, gateLogKeys)}
}

// refusal is why a request is not let in.
type refusal struct {
	status        int
	code, message string
}

func forbidden(message string) *refusal {
	return &refusal{http.StatusForbidden, wire.CodeForbidden, message}
}

func unauthorized(message string) *refusal {
	return &refusal{http.StatusUnauthorized, wire.CodeUnauthorized, message}
}

// The headers that a browser sends of itself, and no program has a reason to:
// a page from anywhere on the web can make a browser on this machine ask.
var browserHeaders = []string{"Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"}

// The headers that tell of a proxy: its own address says nothing of who asks.
var proxyHeaders = []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"}

// check gives nil for a request that is let in: from this machine itself, or
// with the token.
func (g *gate) check(r *http.Request) *refusal {
	if has(r.Header, browserHeaders) {
		return forbidden("upkeep is not for web pages: ask with tbhist, or with another program that is no browser")
	}
	scheme, given, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	ok = ok && strings.EqualFold(scheme, "Bearer")
	if ok && g.token != "" && same(given, g.token) {
		return nil
	}
	if fromLoopback(r) && !has(r.Header, proxyHeaders) && r.ProtoAtLeast(1, 1) { // proxies are what still asks by 1.0
		if loopbackHost(r.Host) {
			return nil
		}
		// A name of the web's that leads here: a page of it may be asking.
		return forbidden("this machine is to be asked by the name localhost or 127.0.0.1, or with the token of tbhist serve --http-token")
	}
	switch {
	case g.token == "":
		return forbidden("upkeep is for the broker's own machine: run the command there, or start the broker with --http-token and give that with --token")
	case !ok:
		return unauthorized("from another machine upkeep needs the token of tbhist serve --http-token: give it with --token or TBHIST_TOKEN")
	}
	return unauthorized("the token is not the one of tbhist serve --http-token")
}

func has(h http.Header, names []string) bool {
	for _, name := range names {
		if len(h.Values(name)) > 0 {
			return true
		}
	}
	return false
}

// same compares in a time that tells nothing of either.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

func fromLoopback(r *http.Request) bool { return addrOf(r).IsLoopback() }

// addrOf gives the address of who asks, the zero one if it cannot be told.
func addrOf(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// loopbackHost tells whether a Host header names this machine by what cannot
// be anything else.
func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
