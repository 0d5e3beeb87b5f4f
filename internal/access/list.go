// Package access decides who may come in: lists of networks from
// --allow-input and --allow-output, and the guard that listeners ask.
package access

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Taken says what an item of a list may be.
const Taken = `"local" (loopback, private and link-local networks and those of this host's own interfaces), "any", a network such as 192.0.2.0/24, or an address`

// ownEvery is how long the prefixes of the own interfaces are believed.
const ownEvery = time.Minute

var carrierGrade = netip.MustParsePrefix("100.64.0.0/10")

// List is a set of networks. It is safe for use by many goroutines.
type List struct {
	items []string // as given, for String
	any   bool
	local bool
	nets  []netip.Prefix

	// Only for local. interfaces and now are replaced in tests.
	interfaces func() ([]net.Addr, error)
	now        func() time.Time
	own        atomic.Pointer[ownNets]
	reading    sync.Mutex // held by the one that reads the interfaces
}

// ownNets is what the interfaces said, and when.
type ownNets struct {
	at   time.Time
	nets []netip.Prefix
}

// Parse makes a list of items; each may hold several, separated by commas.
// The error says which item is none, and what is taken.
func Parse(s []string) (*List, error) {
	l := &List{interfaces: net.InterfaceAddrs, now: time.Now}
	for _, items := range s {
		for item := range strings.SplitSeq(items, ",") {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			if err := l.add(item); err != nil {
				return nil, err
			}
			l.items = append(l.items, item)
		}
	}
	if len(l.items) == 0 {
		return nil, fmt.Errorf("no network given: taken is %s", Taken)
	}
	return l, nil
}

func (l *List) add(item string) error {
	switch item {
	case "local":
		l.local = true
		return nil
	case "any", "all":
		l.any = true
		return nil
	}
	if strings.Contains(item, "/") {
		p, err := netip.ParsePrefix(item)
		if err != nil {
			return fmt.Errorf("%q is not a network: taken is %s", item, Taken)
		}
		l.nets = append(l.nets, unmapPrefix(p).Masked())
		return nil
	}
	a, err := netip.ParseAddr(item)
	if err != nil {
		return fmt.Errorf("%q is not a network: taken is %s", item, Taken)
	}
	a = plain(a)
	l.nets = append(l.nets, netip.PrefixFrom(a, a.BitLen()))
	return nil
}

// String gives the list as it could be given to Parse.
func (l *List) String() string { return strings.Join(l.items, ",") }

// Allows tells whether a is in the list. IPv4 addresses in IPv6 form count
// as what they are; zones do not matter.
func (l *List) Allows(a netip.Addr) bool {
	if l.any {
		return true
	}
	a = plain(a)
	if !a.IsValid() {
		return false
	}
	if l.local && (a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || carrierGrade.Contains(a)) {
		return true
	}
	return contains(l.nets, a) || l.local && contains(l.ownNets(), a)
}

// ownNets gives the prefixes of this host's interfaces, read again when they
// are older than ownEvery. While one goroutine reads, others use the old.
func (l *List) ownNets() []netip.Prefix {
	now, own := l.now(), l.own.Load()
	if own != nil && (now.Sub(own.at) < ownEvery || !l.reading.TryLock()) {
		return own.nets
	}
	if own == nil {
		l.reading.Lock()
	}
	defer l.reading.Unlock()
	if latest := l.own.Load(); latest != own { // somebody else was first
		return latest.nets
	}
	read := &ownNets{at: now}
	addrs, err := l.interfaces()
	if err != nil && own != nil {
		read.nets = own.nets
	}
	for _, addr := range addrs {
		ipNet, ok := addr.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(ipNet.IP)
		if !ok {
			continue
		}
		ones, bits := ipNet.Mask.Size()
		if ip.Is4In6() && bits == 32 {
			ip = ip.Unmap()
		}
		// A prefix of no bits would be everybody.
		if p := unmapPrefix(netip.PrefixFrom(plainZone(ip), ones)); ones > 0 && p.IsValid() {
			read.nets = append(read.nets, p.Masked())
		}
	}
	l.own.Store(read)
	return read.nets
}

func contains(nets []netip.Prefix, a netip.Addr) bool {
	for _, p := range nets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// plain strips what does not matter for comparing.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func plainZone(a netip.Addr) netip.Addr { return a.WithZone("") }

// unmapPrefix turns ::ffff:10.0.0.0/104 into 10.0.0.0/8.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// AddrOf gives the address of a peer without port; the zero Addr when there
// is none.
func AddrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.TCPAddr:
		return plain(a.AddrPort().Addr())
	case *net.UDPAddr:
		return plain(a.AddrPort().Addr())
	}
	return netip.Addr{}
}
