package cli

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tbhist/client"
	"tbhist/internal/dnstest"
)

func scriptDNS(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: dns [failing] [RECORD…]")
	}
	fault := dnstest.None
	if len(args) > 0 && args[0] == "failing" {
		fault, args = dnstest.Failing, args[1:]
	}
	s := nameServers(ts)["dns"]
	if s == nil {
		var err error
		s, err = dnstest.Start()
		ts.Check(err)
		ts.Defer(s.Close)
		nameServers(ts)["dns"] = s
		ts.Setenv("TBHIST_DNS", s.Addr())
	}
	ts.Check(s.Set(args...))
	s.Break(fault)
}

func nameServers(ts *testscript.TestScript) map[string]*dnstest.Server {
	return ts.Value("dns").(map[string]*dnstest.Server) //nolint:forcetypeassert // Setup put it there
}

func TestHostIn(t *testing.T) {
	for hostname, want := range map[string]string{
		"pi":                    "pi.example.org",
		"Pi.local":              "pi.example.org",
		"pi.localdomain":        "pi.example.org",
		"pi.lab.example.net":    "pi.lab.example.net",
		"pi.example.org.":       "pi.example.org",
		"":                      "myhost.example.org",
		"localhost":             "myhost.example.org",
		"localhost.localdomain": "myhost.example.org",
	} {
		if got := hostIn("example.org", hostname); got != want {
			t.Errorf("the host %q is %s, want %s", hostname, got, want)
		}
	}
}

// The host that is suggested needs an address, and is told so if it has none.
func TestZoneSuggests(t *testing.T) {
	s, err := dnstest.Start("pi.example.org. 60 IN A 192.0.2.7")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	resolver, err := client.NewResolver(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for host, told := range map[string]bool{"pi": false, "pi2": true} {
		z := &zoneReport{Zone: "example.org", Name: client.RecordName("example.org")}
		z.suggest(t.Context(), resolver, host)
		var out strings.Builder
		if err := writeZone(&out, z); err != nil {
			t.Fatal(err)
		}
		record := "_thingsbus._tcp.example.org. 3600 IN SRV 0 0 7954 " + host + ".example.org.\n"
		if got := out.String(); !strings.Contains(got, record) || strings.Contains(got, "has no address yet") != told {
			t.Errorf("for %s it says\n%s", host, got)
		}
	}
}
