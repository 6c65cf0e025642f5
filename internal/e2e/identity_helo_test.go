package e2e

import (
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// badName is what sendmail says to bytes that are none of a host name.
var badName = map[*lab.MTA]string{lab.Sendmail: `^501 5\.0\.0 Invalid domain name$`}

// fromClient is a visit of the client with a name that greets like this; word is
// what our field makes of it.
func fromClient(name, greeting, word string, rules ...string) visit {
	return visit{
		name: name, from: lab.ClientAddress, greeting: greeting,
		clientName: lab.ClientName,
		says:       word + " (client.remote.test [192.0.2.10])",
		sees:       relay{ip: "192.0.2.10", rdns: "client.remote.test", helo: strings.NewReplacer("[", "!", "]", "!").Replace(word)},
		rules:      rules,
	}
}

// strange is a greeting that sendmail does not take.
func strange(name, greeting, word string, rules ...string) visit {
	v := fromClient(name, greeting, word, rules...)
	v.refused = badName
	return v
}

// longName returns a host name of n bytes.
func longName(n int) string {
	const end = ".remote.test"
	return strings.Repeat("x", n-len(end)) + end
}

// heloVisits greet with everything that clients greet with.
func heloVisits() []visit {
	const other = "KHOP_HELO_FCRDNS" // a name that is not the verified one
	noHelo := fromClient("no HELO", "", "client.remote.test")
	noName := visit{
		name: "neither HELO nor a name", from: lab.UnknownAddress,
		clientName: "unknown",
		says:       "[192.0.2.66] (unknown [192.0.2.66])",
		sees:       relay{ip: "192.0.2.66", helo: "!192.0.2.66!"},
		rules:      []string{"LAB_UNKNOWN", "RDNS_NONE"},
		// Postfix writes "unknown" where the HELO belongs, and SpamAssassin minds a
		// HELO that was never said.
		own: map[*lab.MTA]sight{lab.Postfix: {
			relay{ip: "192.0.2.66", helo: "unknown"},
			[]string{"FSL_HELO_NON_FQDN_1", "HELO_NO_DOMAIN", "LAB_UNKNOWN", "RDNS_NONE"},
		}},
	}
	literal6 := visit{
		name: "IPv6 literal", from: lab.ClientAddress6, to: address6, greeting: "EHLO [IPv6:2001:DB8:0::10]",
		clientName: lab.ClientName,
		says:       "[IPv6:2001:DB8:0::10] (client.remote.test [IPv6:2001:db8::10])",
		sees:       relay{ip: "2001:db8::10", rdns: "client.remote.test", helo: "!IPv6:2001:DB8:0::10!"},
		rules:      []string{"HELO_NO_DOMAIN", other},
	}
	sender := strange("a sender in the name", "EHLO envelope-from=boss@lab.test", "envelope-from?boss?lab.test", other)
	// From Postfix's field SpamAssassin takes what the client says for the sender.
	sender.own = map[*lab.MTA]sight{lab.Postfix: {
		relay{ip: "192.0.2.10", rdns: "client.remote.test", helo: "envelope-from=boss?lab.test", envfrom: "boss?lab.test"},
		[]string{other},
	}}
	latin1 := strange("ISO 8859-1", "EHLO gr\xfc\xdfe.remote.test", "")
	latin1.refused = map[*lab.MTA]string{lab.Sendmail: badName[lab.Sendmail], lab.Postfix: `^500 5\.5\.2 Error: bad UTF-8 syntax$`}
	tooLong := strange("2,000 bytes", "EHLO "+longName(2000), longName(2000)[2000-512:], other)
	tooLong.own = map[*lab.MTA]sight{lab.Postfix: {
		relay{ip: "192.0.2.10", rdns: "client.remote.test", helo: longName(2000)}, []string{other},
	}}
	return []visit{
		noHelo, noName, literal6, sender, latin1, tooLong,
		fromClient("HELO", "HELO helo.remote.test", "helo.remote.test", other, "LAB_CLIENT"),
		fromClient("verified name", "EHLO client.remote.test", "client.remote.test"),
		fromClient("capitals and a dot", "EHLO CLIENT.Remote.Test.", "CLIENT.Remote.Test."),
		fromClient("literal", "EHLO [192.0.2.10]", "[192.0.2.10]", other),
		fromClient("wrong literal", "EHLO [198.51.100.9]", "[198.51.100.9]", other),
		fromClient("half a literal", "EHLO [192.0.2.10", "?192.0.2.10", other),
		fromClient("address", "EHLO 198.51.100.9", "198.51.100.9", "FSL_HELO_BARE_IP_1", other, "RCVD_HELO_IP_MISMATCH"),
		fromClient("localhost", "EHLO localhost", "localhost", "FSL_HELO_NON_FQDN_1", "HELO_LOCALHOST", other),
		fromClient("no domain", "HELO friend", "friend", "FSL_HELO_NON_FQDN_1", "HELO_NO_DOMAIN", other),
		fromClient("dynamic", "EHLO ppp-192-0-2-10.dyn.remote.test", "ppp-192-0-2-10.dyn.remote.test", "HELO_DYNAMIC_IPADDR", other),
		fromClient("another MTA's word", "EHLO Exim.remote.test", "Exim.remote.test", other),
		fromClient("256 bytes", "EHLO "+longName(256), longName(256), other),
		strange("257 bytes", "EHLO "+longName(257), longName(257), other),
		strange("control bytes", "EHLO a\x01b\x7fc.remote.test", "a?b?c.remote.test", other),
		strange("UTF-8", "EHLO grüße.remote.test", "gr????e.remote.test", other),
		strange("quotes", `EHLO "x;y\z".remote.test`, "?x?y?z?.remote.test", other),
		strange("a relay in the name", "EHLO x(localhost[127.0.0.1])by.remote.test", "x?localhost?127.0.0.1??by.remote.test", "HELO_DYNAMIC_IPADDR", other),
	}
}

// TestHelo: the name that a client says reaches SpamAssassin as the MTA shows it, so
// that the same rules hit.
func TestHelo(t *testing.T) {
	onEach(t, lab.TagAndDiscard, func(t *testing.T, p *lab.Pipeline) { checkVisits(t, p, heloVisits()) })
}
