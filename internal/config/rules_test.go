package config

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func network(text string) Match {
	return Match{Kind: MatchNetwork, Network: netip.MustParsePrefix(text)}
}

// TestMatch: what is typed, what is meant, and how it is shown again.
func TestMatch(t *testing.T) {
	tests := []struct {
		text  string
		want  Match
		shown string // empty if as typed
	}{
		{"auth", Match{Kind: MatchAuth}, ""},
		{"tls", Match{Kind: MatchTLS}, ""},
		{"local", Match{Kind: MatchLocal}, ""},
		{"daemon:MSA", Match{Kind: MatchDaemon, DaemonName: "MSA"}, ""},
		{"daemon:a b:c", Match{Kind: MatchDaemon, DaemonName: "a b:c"}, ""},
		{"192.0.2.0/24", network("192.0.2.0/24"), ""},
		{"192.0.2.1", network("192.0.2.1/32"), "192.0.2.1/32"},
		{"192.0.2.1/32", network("192.0.2.1/32"), ""},
		{"10.0.0.0/8", network("10.0.0.0/8"), ""},
		{"0.0.0.0/0", network("0.0.0.0/0"), ""},
		{"2001:db8::/32", network("2001:db8::/32"), ""},
		{"2001:DB8::1", network("2001:db8::1/128"), "2001:db8::1/128"},
		{"::1", network("::1/128"), "::1/128"},
		{"::/0", network("::/0"), ""},
		{"::ffff:192.0.2.1", network("192.0.2.1/32"), "192.0.2.1/32"},
		{"::ffff:192.0.2.0/120", network("192.0.2.0/24"), "192.0.2.0/24"},
		{"::ffff:0:0/96", network("0.0.0.0/0"), "0.0.0.0/0"},
		{"size>0", Match{Kind: MatchSize}, ""},
		{"size>1000000", Match{Kind: MatchSize, Bytes: 1000000}, ""},
		{"size>0010", Match{Kind: MatchSize, Bytes: 10}, "size>10"},
		{"size>1099511627776", Match{Kind: MatchSize, Bytes: 1 << 40}, ""},
	}
	for _, tt := range tests {
		got, err := parseMatch(tt.text, forSkip)
		shown := tt.text
		if tt.shown != "" {
			shown = tt.shown
		}
		if err != nil || got != tt.want || got.String() != shown {
			t.Errorf("%q: got %+v, %v, shown as %q; want %+v, %q", tt.text, got, err, got, tt.want, shown)
		}
	}
	if (Match{}).String() != "" {
		t.Error("the match of every message has a word")
	}
}

func TestMatchMistakes(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", `"" is no match: write a network as in 192.0.2.0/24, auth, tls, daemon:NAME, local or 'size>BYTES'`},
		{"all", `"all" is no match`},
		{"AUTH", `"AUTH" is no match`},
		{"auth ", `"auth " is no match`},
		{"network", `"network" is no match`},
		{"mail.example.com", `"mail.example.com" is no match`},
		{"inet:25@h", `is no match`},
		{"daemon", `the name of the MTA's listener is missing: write daemon:NAME`},
		{"daemon:", `the name of the MTA's listener is missing`},
		{"daemon:a\nb", `"a\nb" has characters that cannot be printed`},
		{"daemon:\xff", `has characters that cannot be printed`},
		{"size", `the number of bytes is missing: write 'size>BYTES' in quotes`},
		{"size>", `"size>": write a number of bytes from 0 to 1099511627776 behind the >`},
		{"size>1M", `"size>1M": write a number of bytes`},
		{"size>-1", `write a number of bytes`},
		{"size>+1", `write a number of bytes`},
		{"size>1099511627777", `write a number of bytes`},
		{"size>99999999999999999999", `write a number of bytes`},
		{"size>=1", `write a number of bytes`},
		{"size<1", `is no match`},
		{"192.0.2.1/24", `"192.0.2.1/24" has bits set behind its prefix: write 192.0.2.0/24 for the network, or 192.0.2.1 for the one client`},
		{"2001:db8::1/64", `write 2001:db8::/64 for the network, or 2001:db8::1 for the one client`},
		{"::ffff:192.0.2.1/120", `write 192.0.2.0/24 for the network, or 192.0.2.1 for the one client`},
		{"::ffff:192.0.2.0/95", `has bits set behind its prefix`},
		{"192.0.2.0/33", `"192.0.2.0/33" is no network: write an address and the length of the network's prefix, as in 192.0.2.0/24 or 2001:db8::/32`},
		{"192.0.2.0/", `is no network`},
		{"192.0.2.0/-1", `is no match`},
		{"192.0.2.0/024", `is no network`},
		{"192.0.2.0/255.255.255.0", `is no network`},
		{"192.0.2", `is no network`},
		{"192.0.2.", `is no network`},
		{"010.0.0.1", `is no network`},
		{"10", `is no network`},
		{"2001:db8::/129", `is no network`},
		{"fe80::1%eth0", `"fe80::1%eth0": an MTA does not tell the interface: leave out the % and what follows`},
		{"fe80::%eth0/64", `leave out the % and what follows`},
		{"[2001:db8::]/32", `"[2001:db8::]/32" has brackets: write 2001:db8::/32`},
		{"[2001:db8::1]", `has brackets: write 2001:db8::1/128`},
		{"[192.0.2.1/24]", `is no network`},
	}
	for _, tt := range tests {
		got, err := parseMatch(tt.text, forSkip)
		if err == nil || got != (Match{}) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %+v, %v, want …%s…", tt.text, got, err, tt.want)
		}
	}
}

func TestPolicyBanks(t *testing.T) {
	c := parse(t, "--policy-bank=MILTER", "--policy-bank", "auth=ORIGINATING", "--policy-bank=192.0.2.0/24=A=B", "--policy-bank=daemon:MSA=MSA",
		"--policy-bank=local=MYNETS", "--policy-bank=tls=ORIGINATING", "--policy-bank=2001:db8::1=MYNETS")
	want := []PolicyBank{
		{Match{}, "MILTER"}, {Match{Kind: MatchAuth}, "ORIGINATING"}, {network("192.0.2.0/24"), "A=B"}, {Match{Kind: MatchDaemon, DaemonName: "MSA"}, "MSA"},
		{Match{Kind: MatchLocal}, "MYNETS"}, {Match{Kind: MatchTLS}, "ORIGINATING"}, {network("2001:db8::1/128"), "MYNETS"},
	}
	if !reflect.DeepEqual(c.PolicyBanks, want) || len(c.Warnings) > 0 {
		t.Errorf("got %+v, %q", c.PolicyBanks, c.Warnings)
	}
	if got := c.PolicyBanks[0].String() + " " + c.PolicyBanks[2].String(); got != "MILTER 192.0.2.0/24=A=B" {
		t.Errorf("shown as %s", got)
	}
}

func TestPolicyBankMistakes(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", `"" cannot be the name of a policy bank: write it without commas and control characters, and without spaces around it`},
		{"auth=", `"" cannot be the name of a policy bank`},
		{"auth=A,B", `"A,B" cannot be the name`},
		{"auth=A ", `"A " cannot be the name`},
		{" A", `" A" cannot be the name`},
		{"A\tB", `"A\tB" cannot be the name`},
		{"A\x7f", `cannot be the name`},
		{"=A", `"=A": the match before the = is missing: leave out the =, or write a network as in 192.0.2.0/24, auth, tls, daemon:NAME or local`},
		{"A=B", `"A" is no match: write a network as in 192.0.2.0/24, auth, tls, daemon:NAME or local`},
		{"192.0.2.1/24=A", `write 192.0.2.0/24 for the network`},
		{"size>1=BIG", `"size>1": the size is not known before amavisd has been asked: write a network`},
		{"size=BIG", `the size is not known before`},
		{"auth", `"auth" is a match without the name of a policy bank: write auth=NAME`},
		{"192.0.2.0/24", `write 192.0.2.0/24=NAME`},
		{"2001:db8::1", `write 2001:db8::1=NAME`},
		{"daemon:MSA", `write daemon:MSA=NAME`},
	}
	for _, tt := range tests {
		got, err := parsePolicyBank(tt.text)
		if err == nil || got != (PolicyBank{}) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %+v, %v, want …%s…", tt.text, got, err, tt.want)
		}
	}
	lines, code := problems(t, fakeEnv(), "--policy-bank", "A,B", "--skip", "B")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], `--policy-bank: "A,B" `) || !strings.HasPrefix(lines[1], `--skip: "B" is no match`) || code != ExitUsage {
		t.Errorf("exit code %d: %q", code, lines)
	}
}

// TestSkips: all of them, in their order, each once.
func TestSkips(t *testing.T) {
	c := parse(t, "--skip", "local", "--skip=size>10", "--skip=192.0.2.1", "--skip=192.0.2.1/32", "--skip=size>20")
	if want := []Match{{Kind: MatchLocal}, {Kind: MatchSize, Bytes: 10}, network("192.0.2.1/32"), {Kind: MatchSize, Bytes: 20}}; !reflect.DeepEqual(c.Skips, want) {
		t.Errorf("got %+v", c.Skips)
	}
	tests := []struct{ args, want string }{
		{"--skip=192.0.2.1 --skip=192.0.2.1/32", `--skip: "192.0.2.1/32" is given twice: the second is left out`},
		{"--policy-bank=A --policy-bank=auth=A --policy-bank=A", `--policy-bank: "A" is given twice: the second is left out`},
		{"--skip=0.0.0.0/0", "--skip 0.0.0.0/0: all mail of clients with an IPv4 address passes unscanned"},
		{"--skip=::/0", "--skip ::/0: all mail of clients with an IPv6 address passes unscanned"},
		{"--skip=::ffff:0:0/96", "--skip 0.0.0.0/0: all mail of clients with an IPv4 address passes unscanned"},
		{"--skip=size>0", "--skip size>0: all mail passes unscanned"},
		{"--skip=size>1 --skip=0.0.0.0/1 --policy-bank=0.0.0.0/0=A", ""},
	}
	for _, tt := range tests {
		if got := strings.Join(parse(t, strings.Fields(tt.args)...).Warnings, "|"); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.args, got, tt.want)
		}
	}
}

func TestTooManyRules(t *testing.T) {
	for _, option := range []string{"--skip=daemon:", "--policy-bank="} {
		var args []string
		for i := range maxRules {
			args = append(args, option+strings.Repeat("x", i+1))
		}
		parse(t, args...)
		lines, _ := problems(t, fakeEnv(), append(args, option+"y")...)
		name, _, _ := strings.Cut(option, "=")
		if want := name + " is given 1001 times: write it at most 1000 times"; len(lines) != 1 || lines[0] != want {
			t.Errorf("got %q, want %q", lines, want)
		}
	}
}

// FuzzMatch: what is taken is shown as something that means the same, of what is
// refused nothing is left; a bank's name can go to amavisd as one word.
func FuzzMatch(f *testing.F) {
	for _, seed := range []string{
		"auth", "tls=A", "local", "daemon:MSA=X", "daemon:\u2028", "192.0.2.0/24", "::ffff:1.2.3.4/96", "::ffff:0:0/96", "[::1]", "fe80::1%lo", "1.2.3.4/31",
		"size>1", "size>", "size", "=", "A=B=C", "a,b", "2001:db8::/32=BANK", "%", "[[::]]", "::%",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, use := range []matchUse{forSkip, forPolicyBank} {
			m, err := parseMatch(text, use)
			if err != nil {
				if m != (Match{}) || !utf8.ValidString(err.Error()) {
					t.Errorf("%q: %+v, %v", text, m, err)
				}
				continue
			}
			if again, err := parseMatch(m.String(), use); err != nil || again != m {
				t.Errorf("%q is shown as %q, which is %+v, %v", text, m, again, err)
			}
			if m.Kind == MatchAll || m.Kind == MatchSize && use == forPolicyBank || m.Kind == MatchNetwork && (m.Network != m.Network.Masked() || m.Network.Addr().Is4In6()) {
				t.Errorf("%q: got %+v", text, m)
			}
		}
		bank, err := parsePolicyBank(text)
		if err != nil {
			return
		}
		if again, err := parsePolicyBank(bank.String()); err != nil && !strings.Contains(bank.Name+bank.Match.DaemonName, "=") || err == nil && again != bank {
			t.Errorf("%q is shown as %q, which is %+v, %v", text, bank, again, err)
		}
		if strings.ContainsAny(bank.Name, ",\x00\r\n") || bank.Name == "" {
			t.Errorf("%q: the name is %q", text, bank.Name)
		}
	})
}
