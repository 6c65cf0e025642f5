package filter

import (
	"math"
	"net/netip"
	"reflect"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter"
)

func network(s string) Match {
	return Match{Kind: MatchNetwork, Network: netip.MustParsePrefix(s)}
}

func daemon(name string) Match { return Match{Kind: MatchDaemon, DaemonName: name} }

func sizeOver(n int64) Match { return Match{Kind: MatchSize, Bytes: n} }

var (
	matchAuth  = Match{Kind: MatchAuth}
	matchTLS   = Match{Kind: MatchTLS}
	matchLocal = Match{Kind: MatchLocal}
)

func TestMatchString(t *testing.T) {
	for want, m := range map[string]Match{
		"":               {},
		"192.0.2.0/24":   network("192.0.2.0/24"),
		"2001:db8::/32":  network("2001:db8::/32"),
		"auth":           matchAuth,
		"tls":            matchTLS,
		"daemon:MSA":     daemon("MSA"),
		"local":          matchLocal,
		"size>0":         sizeOver(0),
		"size>100000000": sizeOver(100_000_000),
	} {
		if got := m.String(); got != want {
			t.Errorf("%#v is %q, want %q", m, got, want)
		}
	}
}

func TestMatch(t *testing.T) {
	from := func(address string) milter.Envelope {
		return milter.Envelope{Client: milter.Client{Name: "unknown", Address: address}}
	}
	submitted := milter.Envelope{Client: milter.Client{Name: "localhost"}}
	const yes, no = true, false
	for _, c := range []struct {
		name  string
		match Match
		env   milter.Envelope
		want  bool
	}{
		{"everything", Match{}, from(""), yes},
		{"a kind that nobody knows", Match{Kind: "networks"}, from("192.0.2.1"), no},

		{"below the network", network("192.0.2.128/25"), from("192.0.2.127"), no},
		{"first of the network", network("192.0.2.128/25"), from("192.0.2.128"), yes},
		{"last of the network", network("192.0.2.128/25"), from("192.0.2.255"), yes},
		{"above the network", network("192.0.2.128/25"), from("192.0.3.0"), no},
		{"one address", network("192.0.2.1/32"), from("192.0.2.1"), yes},
		{"the address beside it", network("192.0.2.1/32"), from("192.0.2.2"), no},
		{"all of IPv4", network("0.0.0.0/0"), from("203.0.113.9"), yes},
		{"all of IPv4, from IPv6", network("0.0.0.0/0"), from("2001:db8::1"), no},
		{"all of IPv6, from IPv4", network("::/0"), from("192.0.2.1"), no},
		{"all of IPv6, from mapped IPv4", network("::/0"), from("::ffff:192.0.2.1"), no},
		{"IPv6", network("2001:db8::/32"), from("2001:db8:ffff::1"), yes},
		{"another IPv6", network("2001:db8::/32"), from("2001:db9::"), no},
		{"a mapped client", network("192.0.2.0/24"), from("::ffff:192.0.2.1"), yes},
		{"a mapped client in hex", network("192.0.2.0/24"), from("::ffff:c000:201"), yes},
		{"a mapped network, which is nobody's", network("::ffff:192.0.2.0/120"), from("::ffff:192.0.2.255"), no},
		{"a client with a zone", network("fe80::/10"), from("fe80::1%eth0"), yes},
		{"no client, all networks", network("0.0.0.0/0"), from(""), no},
		{"an address that is none", network("0.0.0.0/0"), from("[192.0.2.1]"), no},
		{"no network", Match{Kind: MatchNetwork}, from("192.0.2.1"), no},

		{"AUTH", matchAuth, milter.Envelope{Auth: milter.Auth{Type: "PLAIN", Authen: "ann"}}, yes},
		{"AUTH, only the user told", matchAuth, milter.Envelope{Auth: milter.Auth{Authen: "ann"}}, yes},
		{"bits are no AUTH", matchAuth, milter.Envelope{Auth: milter.Auth{SSF: "256"}, Protocol: "ESMTPSA"}, no},
		{"TLS", matchTLS, milter.Envelope{TLS: milter.TLS{Version: "TLSv1.3"}}, yes},
		{"TLS, only the cipher told", matchTLS, milter.Envelope{TLS: milter.TLS{Cipher: "X"}}, yes},
		{"verify=NONE is no TLS", matchTLS, milter.Envelope{TLS: milter.TLS{Verify: "NONE", CipherBits: "0"}, Protocol: "ESMTPS"}, no},

		{"the listener", daemon("MSA"), milter.Envelope{DaemonName: "MSA"}, yes},
		{"another listener", daemon("MSA"), milter.Envelope{DaemonName: "MSA2"}, no},
		{"its name in small letters", daemon("MSA"), milter.Envelope{DaemonName: "msa"}, no},
		{"no listener told", daemon("MSA"), milter.Envelope{Hostname: "MSA"}, no},
		{"no listener told, none asked for", daemon(""), milter.Envelope{}, no},

		{"submitted without SMTP", matchLocal, submitted, yes},
		{"a proxy hides name and address", matchLocal, from(""), no},
		{"a proxy hides the address", matchLocal, milter.Envelope{Client: milter.Client{Helo: "localhost", Name: "evil.example"}}, no},
		{"a proxy hides the address of one that is called like us", matchLocal,
			milter.Envelope{Hostname: "localhost.evil.example", Client: milter.Client{Name: "localhost.evil.example"}}, no},
		{"nothing is told", matchLocal, milter.Envelope{}, no},
		{"loopback", matchLocal, from("127.0.0.1"), yes},
		{"another loopback", matchLocal, from("127.255.255.255"), yes},
		{"no loopback", matchLocal, from("128.0.0.0"), no},
		{"IPv6 loopback", matchLocal, from("::1"), yes},
		{"mapped loopback", matchLocal, from("::ffff:127.0.0.1"), yes},
		{"beside the IPv6 loopback", matchLocal, from("::2"), no},
		{"the unspecified address", matchLocal, from("0.0.0.0"), no},
		{"a private network", matchLocal, from("10.0.0.1"), no},
		{"a name that claims it", matchLocal, milter.Envelope{Client: milter.Client{Helo: "localhost", Name: "localhost", Address: "192.0.2.1"}}, no},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.match.fits(&c.env, 0); got != c.want {
				t.Errorf("%v fits: %v, want %v", c.match, got, c.want)
			}
		})
	}
}

func TestMatchSize(t *testing.T) {
	env := testEnvelope()
	for _, c := range []struct {
		limit, size int64
		want        bool
	}{
		{1000, 999, false}, {1000, 1000, false}, {1000, 1001, true},
		{0, 0, false}, {0, 1, true}, {-1, 0, false}, {-1, 1, false},
	} {
		if got := sizeOver(c.limit).fits(env, c.size); got != c.want {
			t.Errorf("%v with %d bytes fits: %v, want %v", sizeOver(c.limit), c.size, got, c.want)
		}
	}
}

// The first rule given counts, and none of the ones that say nothing.
func TestSkipsFirst(t *testing.T) {
	env := testEnvelope()
	env.DaemonName = "MSA"
	for _, c := range []struct {
		name  string
		rules []Match
		size  int64
		want  string
	}{
		{"none", nil, 1 << 40, ""},
		{"the zero match", []Match{{}}, 1, ""},
		{"the first of two", []Match{network("192.0.2.0/24"), daemon("MSA")}, 1, "192.0.2.0/24"},
		{"the first of two, turned round", []Match{daemon("MSA"), network("192.0.2.0/24")}, 1, "daemon:MSA"},
		{"the first that fits", []Match{matchTLS, daemon("MSA")}, 1, "daemon:MSA"},
		{"the size first, not passed", []Match{sizeOver(100), daemon("MSA")}, 100, "daemon:MSA"},
		{"the size first, passed", []Match{sizeOver(100), daemon("MSA")}, 101, "size>100"},
		{"two sizes", []Match{sizeOver(200), sizeOver(100)}, 150, "size>100"},
		{"two sizes, both passed", []Match{sizeOver(200), sizeOver(100)}, 201, "size>200"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rule, ok := newSkips(c.rules).first(env, c.size)
			if rule.String() != c.want || ok != (c.want != "") {
				t.Errorf("%q, %v, want %q", rule, ok, c.want)
			}
		})
	}
}

func TestSkipsOver(t *testing.T) {
	for _, c := range []struct {
		rules []Match
		want  int64
	}{
		{nil, math.MaxInt64}, {[]Match{matchAuth}, math.MaxInt64}, {[]Match{sizeOver(-1)}, math.MaxInt64},
		{[]Match{sizeOver(0)}, 0}, {[]Match{sizeOver(100), matchAuth, sizeOver(200)}, 100}, {[]Match{sizeOver(200), sizeOver(100)}, 100},
	} {
		if got := newSkips(c.rules).over(); got != c.want {
			t.Errorf("%v: %d, want %d", c.rules, got, c.want)
		}
	}
}

// What an administrator's rules add to the policy banks.
func TestPolicyBankRules(t *testing.T) {
	env := testEnvelope()
	env.DaemonName = "MSA"
	env.Auth = milter.Auth{Type: "PLAIN", Authen: "ann", SSF: "0"}
	for _, c := range []struct {
		name  string
		banks []PolicyBank
		want  []string
	}{
		{"none", nil, []string{"MSA", "SMTP_AUTH", "SMTP_AUTH_PLAIN", "SMTP_AUTH_PLAIN_0"}},
		{"in the order given", []PolicyBank{{Name: "Z"}, {matchAuth, "B"}, {network("192.0.2.0/24"), "A"}},
			[]string{"MSA", "SMTP_AUTH", "SMTP_AUTH_PLAIN", "SMTP_AUTH_PLAIN_0", "Z", "B", "A"}},
		{"not where the match does not fit", []PolicyBank{{matchTLS, "A"}, {matchLocal, "B"}, {Name: "C"}},
			[]string{"MSA", "SMTP_AUTH", "SMTP_AUTH_PLAIN", "SMTP_AUTH_PLAIN_0", "C"}},
		{"a name twice keeps its last place", []PolicyBank{{Name: "A"}, {Name: "B"}, {matchAuth, "A"}, {Name: "A"}},
			[]string{"MSA", "SMTP_AUTH", "SMTP_AUTH_PLAIN", "SMTP_AUTH_PLAIN_0", "B", "A"}},
		{"a name that the MTA's facts gave", []PolicyBank{{matchAuth, "SMTP_AUTH"}, {daemon("MSA"), "MSA"}},
			[]string{"SMTP_AUTH_PLAIN", "SMTP_AUTH_PLAIN_0", "SMTP_AUTH", "MSA"}},
		{"a name that amavisd would take apart", []PolicyBank{{Name: "A,B"}, {Name: ""}},
			[]string{"MSA", "SMTP_AUTH", "SMTP_AUTH_PLAIN", "SMTP_AUTH_PLAIN_0"}},
		{"no bank by size", []PolicyBank{{sizeOver(0), "A"}},
			[]string{"MSA", "SMTP_AUTH", "SMTP_AUTH_PLAIN", "SMTP_AUTH_PLAIN_0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := New(Options{DaemonPolicyBank: true, PolicyBanks: c.banks})
			defer f.Close()
			if got := f.policyBanks(env); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%q\nwant %q", got, c.want)
			}
			if got := f.request(env, "/w/milter/x", "/w/milter/x/email.txt").PolicyBanks; !reflect.DeepEqual(got, c.want) {
				t.Errorf("the request has %q\nwant %q", got, c.want)
			}
		})
	}
}
