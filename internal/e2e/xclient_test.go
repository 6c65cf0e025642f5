package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// proxied is an SMTP client behind a proxy, which tells Postfix about it (XCLIENT).
// Postfix tells the milter the word "unknown" for what the proxy hides.
type proxied struct {
	name   string
	told   string            // arguments of XCLIENT
	want   map[string]string // attributes of the request; empty: none
	says   string            // what our Received field must begin with
	rules  []string          // of SpamAssassin's about clients, those that must hit
	logged string            // as the client
	rule   string            // by which --skip local lets it pass
}

var hidden = map[string]string{"client_name": "", "client_address": "", "client_port": "", "helo_name": "helo.remote.test"}

var proxiedClients = []proxied{
	{
		"name and address hidden", "NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE]", hidden,
		"Received: (from unknown@localhost)\n", []string{"NO_RELAYS"}, "unknown", "",
	},
	{
		"address hidden", "NAME=evil.example ADDR=[UNAVAILABLE]", hidden,
		"Received: (from unknown@localhost)\n", []string{"NO_RELAYS"}, "unknown", "",
	},
	{
		"address hidden, the name begins like ours", "NAME=localhost.evil.example ADDR=[UNAVAILABLE]", hidden,
		"Received: (from unknown@localhost)\n", []string{"NO_RELAYS"}, "unknown", "",
	},
	{
		"name hidden", "NAME=[UNAVAILABLE] ADDR=" + lab.UnknownAddress + " PORT=4711",
		map[string]string{"client_name": "unknown", "client_address": lab.UnknownAddress, "client_port": "4711", "helo_name": "helo.remote.test"},
		"Received: from helo.remote.test (unknown [192.0.2.66])\n", []string{"LAB_UNKNOWN", "RDNS_NONE"}, lab.UnknownAddress, "",
	},
	{
		"nothing hidden", "NAME=" + lab.ClientName + " ADDR=" + lab.ClientAddress + " PORT=4712",
		map[string]string{"client_name": lab.ClientName, "client_address": lab.ClientAddress, "client_port": "4712", "helo_name": "helo.remote.test"},
		"Received: from helo.remote.test (client.remote.test [192.0.2.10])\n", []string{"KHOP_HELO_FCRDNS", "LAB_CLIENT"}, lab.ClientAddress, "",
	},
	{
		"the proxy's own host", "NAME=[UNAVAILABLE] ADDR=127.0.0.1 PORT=4713",
		map[string]string{"client_name": "unknown", "client_address": "127.0.0.1", "client_port": "4713", "helo_name": "helo.remote.test"},
		"Received: from helo.remote.test (unknown [127.0.0.1])\n", []string{"ALL_TRUSTED"}, "127.0.0.1", "local",
	},
}

// TestXClient: amavisd and SpamAssassin are told about the client, not the proxy, and
// mail of a client that it hides is scanned like any other.
func TestXClient(t *testing.T) {
	onEach(t, lab.TagAndDiscard, func(t *testing.T, p *lab.Pipeline) {
		if p.MTA == lab.Postfix {
			testXClient(t, p)
		}
	})
}

func testXClient(t *testing.T, p *lab.Pipeline) {
	for _, c := range proxiedClients {
		t.Run(c.name, func(t *testing.T) {
			client := c.open(t)
			for range 2 {
				logged := p.Syslog.Mark()
				exchange, delivery, id := sendPlainly(t, p, client, sender)
				mustAttributes(t, exchange, c.want)
				mustBeginWith(t, exchange.Spooled, c.says)
				mustTests(t, delivery, c.rules...)
				mustLogClient(t, p, logged, id, c.logged)
			}
		})
	}
}

// mustLogClient asks for the line about a mail to end with its client.
func mustLogClient(t *testing.T, p *lab.Pipeline, mark int, id, client string) {
	t.Helper()
	err := lab.Poll(logTimeout, "the line about the mail", func() error {
		for _, line := range p.Syslog.Since(mark, "amavis-milter") {
			if strings.HasPrefix(line.Text, id+": verdict=accept ") && strings.HasSuffix(line.Text, " client="+client) {
				return nil
			}
		}
		return fmt.Errorf("none ends with client=%s", client)
	})
	if err != nil {
		t.Error(err)
	}
}

// open begins a session of the client by its proxy.
func (c *proxied) open(t *testing.T) *lab.Client {
	t.Helper()
	client, _, err := lab.DialSMTP(lab.ProxyAddress, lab.Postfix.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	mustReply(t, client, "EHLO proxy.remote.test", 250)
	mustReply(t, client, "XCLIENT "+c.told, 220)
	mustReply(t, client, "EHLO helo.remote.test", 250)
	return client
}

// TestSkipXClient: a client that a proxy hides is not local, whatever name it has.
func TestSkipXClient(t *testing.T) {
	onEach(t, lab.Reject, func(t *testing.T, p *lab.Pipeline) {
		if p.MTA == lab.Postfix {
			testSkipXClient(t, p)
		}
	})
}

func testSkipXClient(t *testing.T, p *lab.Pipeline) {
	withService(t, p, "--skip local")
	for _, c := range proxiedClients {
		t.Run(c.name, func(t *testing.T) {
			client := c.open(t)
			checkSkip(t, p, client, markedSpam(0), c.rule)
		})
	}
}
