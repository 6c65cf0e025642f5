package e2e

import (
	"sync"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// visits are clients of every kind. That one has a name means that the name has its
// address (FCrDNS).
var visits = []visit{
	{
		name: "with a name", from: lab.ClientAddress, greeting: "EHLO helo.remote.test",
		clientName: lab.ClientName,
		says:       "helo.remote.test (client.remote.test [192.0.2.10])",
		sees:       relay{ip: "192.0.2.10", rdns: "client.remote.test", helo: "helo.remote.test"},
		rules:      []string{"KHOP_HELO_FCRDNS", "LAB_CLIENT"},
	},
	{
		name: "without a name", from: lab.UnknownAddress, greeting: "EHLO helo.remote.test",
		clientName: "unknown",
		says:       "helo.remote.test (unknown [192.0.2.66])",
		sees:       relay{ip: "192.0.2.66", helo: "helo.remote.test"},
		rules:      []string{"LAB_UNKNOWN", "RDNS_NONE"},
	},
	{
		name: "with a name that has another address", from: lab.ForgedAddress, greeting: "EHLO helo.remote.test",
		clientName: "unknown",
		says:       "helo.remote.test (unknown [192.0.2.67])",
		sees:       relay{ip: "192.0.2.67", helo: "helo.remote.test"},
		rules:      []string{"RDNS_NONE"},
		// sendmail vouches for no such name either, but writes it with "(may be
		// forged)", which SpamAssassin does not read.
		own: map[*lab.MTA]sight{lab.Sendmail: {
			relay{ip: "192.0.2.67", rdns: lab.ForgedName, helo: "helo.remote.test"}, []string{"KHOP_HELO_FCRDNS"},
		}},
	},
	{
		name: "IPv6, with a name", from: lab.ClientAddress6, to: address6, greeting: "EHLO helo.remote.test",
		clientName: lab.ClientName,
		says:       "helo.remote.test (client.remote.test [IPv6:2001:db8::10])",
		sees:       relay{ip: "2001:db8::10", rdns: "client.remote.test", helo: "helo.remote.test"},
		rules:      []string{"KHOP_HELO_FCRDNS"},
	},
	{
		name: "IPv6, without a name", from: lab.UnknownAddress6, to: address6, greeting: "EHLO helo.remote.test",
		clientName: "unknown",
		says:       "helo.remote.test (unknown [IPv6:2001:db8::66])",
		sees:       relay{ip: "2001:db8::66", helo: "helo.remote.test"},
		rules:      []string{"RDNS_NONE"},
	},
	{
		name: "IPv4 on an IPv6 socket, with a name", from: lab.MappedAddress, to: mapped, greeting: "EHLO helo.remote.test",
		clientName: lab.MappedName,
		says:       "helo.remote.test (mapped.remote.test [192.0.2.11])",
		sees:       relay{ip: "192.0.2.11", rdns: "mapped.remote.test", helo: "helo.remote.test"},
		rules:      []string{"KHOP_HELO_FCRDNS"},
	},
	{
		name: "IPv4 on an IPv6 socket, without a name", from: lab.UnknownAddress, to: mapped, greeting: "EHLO helo.remote.test",
		clientName: "unknown",
		says:       "helo.remote.test (unknown [192.0.2.66])",
		sees:       relay{ip: "192.0.2.66", helo: "helo.remote.test"},
		rules:      []string{"LAB_UNKNOWN", "RDNS_NONE"},
	},
	{
		name: "on the same host", from: "127.0.0.1", greeting: "EHLO helo.remote.test",
		clientName: "localhost",
		says:       "helo.remote.test (localhost [127.0.0.1])",
		sees:       relay{ip: "127.0.0.1", rdns: "localhost", helo: "helo.remote.test", trusted: "trusted"},
		rules:      []string{"ALL_TRUSTED"},
	},
	{
		name: "STARTTLS", from: lab.ClientAddress, greeting: "EHLO helo.remote.test", tls: true,
		clientName: lab.ClientName,
		says:       "helo.remote.test (client.remote.test [192.0.2.10])",
		sees:       relay{ip: "192.0.2.10", rdns: "client.remote.test", helo: "helo.remote.test"},
		rules:      []string{"KHOP_HELO_FCRDNS", "LAB_CLIENT"},
	},
	{
		name: "STARTTLS, IPv6, without a name", from: lab.UnknownAddress6, to: address6, greeting: "EHLO helo.remote.test", tls: true,
		clientName: "unknown",
		says:       "helo.remote.test (unknown [IPv6:2001:db8::66])",
		sees:       relay{ip: "2001:db8::66", helo: "helo.remote.test"},
		rules:      []string{"RDNS_NONE"},
	},
	{
		name: "AUTH", from: lab.ClientAddress, to: submission, greeting: "EHLO helo.remote.test", auth: true,
		clientName: lab.ClientName,
		says:       "helo.remote.test (client.remote.test [192.0.2.10])",
		sees:       relay{ip: "192.0.2.10", rdns: "client.remote.test", helo: "helo.remote.test", auth: "ESMTPA", trusted: "trusted"},
		rules:      []string{"ALL_TRUSTED"},
	},
	{
		name: "AUTH, without a name", from: lab.UnknownAddress, to: submission, greeting: "EHLO [10.1.2.3]", auth: true,
		clientName: "unknown",
		says:       "[10.1.2.3] (unknown [192.0.2.66])",
		sees:       relay{ip: "192.0.2.66", helo: "!10.1.2.3!", auth: "ESMTPA", trusted: "trusted"},
		rules:      []string{"ALL_TRUSTED"},
	},
	{
		name: "STARTTLS and AUTH", from: lab.ClientAddress, to: submission, greeting: "EHLO helo.remote.test", tls: true, auth: true,
		clientName: lab.ClientName,
		says:       "helo.remote.test (client.remote.test [192.0.2.10])",
		sees:       relay{ip: "192.0.2.10", rdns: "client.remote.test", helo: "helo.remote.test", auth: "ESMTPSA", trusted: "trusted"},
		rules:      []string{"ALL_TRUSTED"},
	},
}

// TestIdentity: amavisd and SpamAssassin know every client as the MTA does.
func TestIdentity(t *testing.T) {
	onEach(t, lab.TagAndDiscard, func(t *testing.T, p *lab.Pipeline) { checkVisits(t, p, visits) })
}

func checkVisits(t *testing.T, p *lab.Pipeline, visits []visit) {
	t.Helper()
	sa := askSpamAssassin(t)
	for _, v := range visits {
		if v.listener(p.MTA) == "" {
			continue
		}
		t.Run(v.name, func(t *testing.T) { v.check(t, p, sa) })
	}
}

// theSpamAssassin takes a second to start: the tests share one. It ends with them,
// when its standard input does.
var theSpamAssassin = sync.OnceValues(lab.StartSpamAssassin)

func askSpamAssassin(t *testing.T) *lab.SpamAssassin {
	t.Helper()
	sa, err := theSpamAssassin()
	if err != nil {
		t.Fatal(err)
	}
	return sa
}
