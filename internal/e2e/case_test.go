package e2e

import (
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// testCase is one mail, and what is to become of it in each profile.
type testCase struct {
	name       string
	sender     string // without brackets; empty is the null sender
	recipients []string
	mail, rcpt string // parameters of MAIL and of each RCPT
	raw        []byte // CR LF line ends
	want       map[string]want
}

// mail is a case in which someone outside writes to user.
func mail(name string, raw []byte, want map[string]want) testCase {
	return testCase{name: name, sender: sender, recipients: []string{user}, mail: "BODY=8BITMIME", raw: raw, want: want}
}

// from is the same case with another sender.
func (c testCase) from(sender string) testCase {
	c.sender = sender
	return c
}

// to is the same case with other recipients.
func (c testCase) to(recipients ...string) testCase {
	c.recipients = recipients
	return c
}

// parameters is the same case with other parameters of MAIL and RCPT.
func (c testCase) parameters(mail, rcpt string) testCase {
	c.mail, c.rcpt = mail, rcpt
	return c
}

// want is what is to become of a mail.
type want struct {
	reply      string            // expression for the reply to the end of the data
	recipients []string          // who gets it; nil if nobody does
	top        []string          // expressions for the fields above the MTA's Received, in order
	changed    map[string]string // expressions for fields with another value, by their name; of several of a name, for the first
	gone       []string          // names of fields that do not arrive
	bottom     []string          // expressions for the fields below all others, in order
}

// connect opens an SMTP session from the client that has a name.
func connect(t *testing.T, p *lab.Pipeline) *lab.Client {
	t.Helper()
	client, greeting, err := lab.DialSMTP(lab.ClientAddress, p.MTA.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if greeting.Code != 220 {
		t.Fatalf("greeting %q", greeting)
	}
	mustReply(t, client, "EHLO helo.remote.test", 250)
	return client
}

func mustReply(t *testing.T, client *lab.Client, command string, code int) {
	t.Helper()
	reply, err := client.Command(command)
	if err != nil || reply.Code != code {
		t.Fatalf("%s: reply %q, error %v; wanted %d", command, reply, err, code)
	}
}

// envelope sends MAIL, RCPT and DATA in one write.
func envelope(t *testing.T, client *lab.Client, sender string, recipients []string) {
	t.Helper()
	c := mail("", nil, nil).from(sender).to(recipients...)
	c.envelope(t, client)
}

// envelope sends MAIL, RCPT and DATA of a case in one write.
func (c *testCase) envelope(t *testing.T, client *lab.Client) {
	t.Helper()
	commands := []string{strings.TrimSpace("MAIL FROM:<" + c.sender + "> " + c.mail)}
	for _, recipient := range c.recipients {
		commands = append(commands, strings.TrimSpace("RCPT TO:<"+recipient+"> "+c.rcpt))
	}
	replies, err := client.Pipeline(append(commands, "DATA")...)
	if err != nil {
		t.Fatal(err)
	}
	for i, reply := range replies {
		if want := map[bool]int{true: 354, false: 250}[i == len(replies)-1]; reply.Code != want {
			t.Fatalf("reply %d is %q, want %d", i+1, reply, want)
		}
	}
}

// send sends one mail and returns the reply to its end.
func send(t *testing.T, client *lab.Client, sender string, recipients []string, raw []byte) lab.Reply {
	t.Helper()
	envelope(t, client, sender, recipients)
	reply, err := client.Data(raw)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// mustSpoolEmpty fails if the milter has left anything: it must be gone before
// the client has its reply, so there is nothing to wait for.
func mustSpoolEmpty(t *testing.T, p *lab.Pipeline) {
	t.Helper()
	if names, err := p.Spool(); err != nil || len(names) > 0 {
		t.Errorf("in the spool: %q, error %v; want nothing", names, err)
	}
}
