package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// testCase is one mail, and what is to become of it in each profile.
type testCase struct {
	name       string
	sender     string // without brackets; empty is the null sender
	recipients []string
	raw        []byte // CR LF line ends
	want       map[string]want
}

// want is what is to become of a mail.
type want struct {
	reply      string            // expression for the reply to the end of the data
	recipients []string          // who gets it, in order; nil if nobody does
	top        []string          // expressions for the fields above the MTA's Received, in order
	changed    map[string]string // expressions for fields with another value, by their name
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
	commands := []string{"MAIL FROM:<" + sender + "> BODY=8BITMIME"}
	for _, recipient := range recipients {
		commands = append(commands, "RCPT TO:<"+recipient+">")
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

// check sends the mail of a case over client and compares all that can be seen.
func (c *testCase) check(t *testing.T, p *lab.Pipeline, client *lab.Client, w want) {
	t.Helper()
	delivered, requests, logged := p.Sink.Mark(), p.Relay.Mark(), p.Syslog.Mark()
	reply := send(t, client, c.sender, c.recipients, c.raw)
	mustSpoolEmpty(t, p)
	wantReply := replyOf(p.MTA, w.reply)
	if ok, err := regexp.MatchString(wantReply, reply.String()); err != nil || !ok {
		t.Errorf("the client was told %q, want %s (%v)", reply, wantReply, err)
	}
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	exchanges := p.Relay.Exchanges(requests)
	if len(exchanges) != 1 {
		t.Fatalf("amavisd was asked %d times, want once", len(exchanges))
	}
	c.checkRequest(t, exchanges[0], queueID(p.MTA, reply))
	c.checkDeliveries(t, p.MTA, p.Sink.Deliveries(delivered), w)
	checkSummary(t, p, logged)
	if t.Failed() {
		t.Logf("amavisd was asked:\n%s", exchanges[0].Request)
		t.Logf("amavisd answered:\n%s", exchanges[0].Reply)
		for _, line := range p.Syslog.Since(logged, "amavis-milter") {
			t.Logf("log: %s", line.Text)
		}
		for _, d := range p.Sink.Deliveries(delivered) {
			t.Logf("delivered to %v:\n%s", d.Recipients, cut(d.Raw))
		}
	}
}

// checkRequest compares the AM.PDP request with what the client said.
func (c *testCase) checkRequest(t *testing.T, exchange lab.Exchange, queueID string) {
	t.Helper()
	attributes, err := lab.Attributes(exchange.Request)
	if err != nil {
		t.Fatalf("the request: %v", err)
	}
	values := map[string][]string{}
	for _, a := range attributes {
		values[a.Name] = append(values[a.Name], a.Value)
	}
	if queueID == "" && len(values["queue_id"]) == 1 {
		queueID = values["queue_id"][0] // no reply told it
	}
	tempDir := lab.SpoolDir + "/amavis-milter-" + queueID
	want := map[string][]string{
		"request":            {"AM.PDP"},
		"queue_id":           {queueID},
		"sender":             {"<" + c.sender + ">"},
		"recipient":          nil,
		"tempdir":            {tempDir},
		"tempdir_removed_by": {"client"},
		"mail_file":          {tempDir + "/email.txt"},
		"delivery_care_of":   {"client"},
		"client_address":     {lab.ClientAddress},
		"client_name":        {lab.ClientName},
		"helo_name":          {"helo.remote.test"},
		"protocol_name":      {"ESMTP"},
	}
	for _, recipient := range c.recipients {
		want["recipient"] = append(want["recipient"], "<"+recipient+">")
	}
	for name, value := range want {
		if !slices.Equal(values[name], value) {
			t.Errorf("amavisd was told %s=%q, want %q", name, values[name], value)
		}
	}
	if len(attributes) == 0 || attributes[0].Name != "request" {
		t.Errorf("the request begins with %v, want request=AM.PDP", attributes)
	}
}

// checkDeliveries compares what the sink got: to whom, every header field in
// order, and the body.
func (c *testCase) checkDeliveries(t *testing.T, mta *lab.MTA, deliveries []*lab.Delivery, w want) {
	t.Helper()
	var recipients []string
	for _, d := range deliveries {
		if d.Sender != "<"+c.sender+">" {
			t.Errorf("delivered from %s, want <%s>", d.Sender, c.sender)
		}
		for _, recipient := range d.Recipients {
			recipients = append(recipients, strings.Trim(recipient, "<>"))
		}
		c.checkHeader(t, mta, d, w)
		_, body := lab.SplitMessage(c.raw)
		if got, want := lab.Hash(d.Body()), lab.Hash(body); got != want {
			t.Errorf("the body has hash %s, want %s:\n%s", got, want, cut(d.Body()))
		}
	}
	slices.Sort(recipients) // the MTA delivers in an order of its own
	if !slices.Equal(recipients, slices.Sorted(slices.Values(w.recipients))) {
		t.Errorf("delivered to %q, want %q", recipients, w.recipients)
	}
}

// checkHeader compares the header of a delivered mail, field by field.
func (c *testCase) checkHeader(t *testing.T, mta *lab.MTA, d *lab.Delivery, w want) {
	t.Helper()
	expressions := append(slices.Clone(w.top), receivedByMTA(mta, "helo.remote.test", "ESMTP"))
	sent, _ := lab.SplitMessage(c.raw)
	for _, field := range sent {
		if expression, ok := w.changed[field.Name]; ok {
			expressions = append(expressions, expression)
		} else if !slices.Contains(w.gone, field.Name) {
			expressions = append(expressions, "^"+regexp.QuoteMeta(field.String())+"$")
		}
	}
	expressions = append(expressions, w.bottom...)
	header := d.Header()
	for i := range max(len(header), len(expressions)) {
		switch {
		case i >= len(header):
			t.Errorf("no header field %d, want %s", i+1, expressions[i])
		case i >= len(expressions):
			t.Errorf("header field %d is %q, want none", i+1, header[i])
		default:
			ok, err := regexp.MatchString(expressions[i], header[i].String())
			if err != nil || !ok {
				t.Errorf("header field %d is %q, want %s (%v)", i+1, header[i], expressions[i], err)
			}
		}
	}
}

// checkSummary asks for exactly one line of ours about the mail.
func checkSummary(t *testing.T, p *lab.Pipeline, mark int) {
	t.Helper()
	summary := regexp.MustCompile(`^\w+: verdict=`)
	err := lab.Poll(logTimeout, "the summary line", func() error {
		n := 0
		for _, line := range p.Syslog.Since(mark, "amavis-milter") {
			if summary.MatchString(line.Text) {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("%d of them", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// cut shortens a mail for a test's output.
func cut(raw []byte) []byte {
	const most = 4096 // bytes
	if len(raw) > most {
		return append(slices.Clone(raw[:most]), "…"...)
	}
	return raw
}
