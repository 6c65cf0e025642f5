package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// check sends the mail of a case over client and compares all that can be seen.
// Other cases may be under way at the same time over other connections.
func (c *testCase) check(t *testing.T, p *lab.Pipeline, client *lab.Client, w want) {
	t.Helper()
	before := now(p)
	c.envelope(t, client)
	reply, err := client.Data(c.raw)
	if err != nil {
		t.Fatal(err)
	}
	if refuses := c.treatment(p.MTA).refuses; refuses != "" {
		c.checkRefusal(t, p, client, reply, refuses, before)
		return
	}
	wantReply := replyOf(p.MTA, w.reply)
	if ok, err := regexp.MatchString(wantReply, reply.String()); err != nil || !ok {
		t.Errorf("the client was told %q, want %s (%v)", reply, wantReply, err)
	}
	exchanges := exchangesAbout(t, p, client, before)
	if len(exchanges) != 1 {
		before.tell(t, p, "")
		t.Fatalf("amavisd was asked %d times, want once", len(exchanges))
	}
	exchange := exchanges[0]
	id := c.checkRequest(t, p.MTA, exchange, queueID(p.MTA, reply))
	// It must be gone before the client has its reply: there is nothing to wait for.
	if names, err := p.Spool(); err != nil || slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, id) }) {
		t.Errorf("in the spool: %q, error %v; want nothing of %s", names, err, id)
	}
	if err := p.FlushMessage(id); err != nil {
		t.Fatal(err)
	}
	c.checkSpool(t, p.MTA, exchange)
	deliveries := deliveriesOf(p, before, id)
	c.checkDeliveries(t, p.MTA, deliveries, w)
	checkSummary(t, p, before.logged, id)
	if t.Failed() {
		t.Logf("amavisd was asked:\n%s", exchange.Request)
		t.Logf("about the mail:\n%s", cut(exchange.Spooled))
		t.Logf("amavisd answered:\n%s", cut(exchange.Reply))
		before.tell(t, p, id)
		for _, d := range deliveries {
			t.Logf("delivered to %v:\n%s", d.Recipients, cut(d.Raw))
		}
	}
}

// exchangesAbout are those since the marks about mail that came over client.
func exchangesAbout(t *testing.T, p *lab.Pipeline, client *lab.Client, since marks) []lab.Exchange {
	t.Helper()
	port := []string{strconv.Itoa(client.Port())}
	return slices.DeleteFunc(p.Relay.Exchanges(since.requests), func(exchange lab.Exchange) bool {
		return !slices.Equal(attribute(t, exchange, "client_port"), port)
	})
}

// deliveriesOf are those since the marks of the message with this queue id, which
// stands in the MTA's Received field, the first one.
func deliveriesOf(p *lab.Pipeline, since marks, id string) []*lab.Delivery {
	return slices.DeleteFunc(p.Sink.Deliveries(since.delivered), func(d *lab.Delivery) bool {
		received := d.Values("Received")
		return len(received) == 0 || !slices.Contains(strings.Fields(strings.ReplaceAll(received[0], ";", " ")), id)
	})
}

// checkRefusal is the check of a mail that the MTA itself refuses when it has all
// of it: amavisd is not bothered, and the spool soon is empty. No other case may be
// under way.
func (c *testCase) checkRefusal(t *testing.T, p *lab.Pipeline, client *lab.Client, reply lab.Reply, want string, before marks) {
	t.Helper()
	if ok, err := regexp.MatchString(want, reply.String()); err != nil || !ok {
		t.Errorf("the client was told %q, want %s (%v)", reply, want, err)
	}
	mustReply(t, client, "MAIL FROM:<>", 250) // at the latest now it tells the milter
	mustReply(t, client, "RSET", 250)
	mustSpool(t, p, 0)
	before.mustAsk(t, p)
	before.mustDeliver(t, p)
}

// checkRequest compares the AM.PDP request with what the client said. It returns the
// queue id, which is that of the MTA's reply if it told one.
func (c *testCase) checkRequest(t *testing.T, mta *lab.MTA, exchange lab.Exchange, queueID string) string {
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
	d := c.treatment(mta)
	want := map[string][]string{
		"request":            {"AM.PDP"},
		"queue_id":           {queueID},
		"sender":             {"<" + d.told(c.sender) + ">"},
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
		want["recipient"] = append(want["recipient"], "<"+d.told(recipient)+">")
	}
	for name, value := range want {
		if !slices.Equal(values[name], value) {
			t.Errorf("amavisd was told %s=%q, want %q", name, values[name], value)
		}
	}
	if len(attributes) == 0 || attributes[0].Name != "request" {
		t.Errorf("the request begins with %v, want request=AM.PDP", attributes)
	}
	return queueID
}

// receivedByUs is the field that stands above the mail in the spool.
var receivedByUs = regexp.MustCompile(`^Received: from helo\.remote\.test \(client\.remote\.test \[192\.0\.2\.10\]\)\n` +
	`\tby mx\.lab\.test \(amavis-milter\) with ESMTP id \w+;\n\t[^\n]+\n`)

// checkSpool compares the mail that amavisd was given with what the MTA took: it is
// the same, byte by byte, but for the line ends and the field above it.
func (c *testCase) checkSpool(t *testing.T, mta *lab.MTA, exchange lab.Exchange) {
	t.Helper()
	received := receivedByUs.Find(exchange.Spooled)
	if received == nil {
		t.Errorf("the mail in the spool begins with %q, want %s", exchange.Spooled[:min(300, len(exchange.Spooled))], receivedByUs)
	}
	taken := c.taken(mta)
	var sent bytes.Buffer
	for _, field := range taken.header {
		sent.WriteString(field.String() + "\r\n")
	}
	sent.WriteString("\r\n")
	sent.Write(taken.body)
	got, want := exchange.Spooled[len(received):], bytes.ReplaceAll(sent.Bytes(), []byte("\r\n"), []byte("\n"))
	if !bytes.Equal(got, want) {
		t.Errorf("in the spool is %s", parting(got, want))
	}
}

// parting says where two texts part.
func parting(got, want []byte) string {
	const around = 60 // bytes
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	from := max(0, i-around)
	return fmt.Sprintf("%q at byte %d, want %q", got[from:min(len(got), i+around)], i, want[from:min(len(want), i+around)])
}

// checkDeliveries compares what the sink got: to whom, every header field in
// order, and the body.
func (c *testCase) checkDeliveries(t *testing.T, mta *lab.MTA, deliveries []*lab.Delivery, w want) {
	t.Helper()
	sent, d := c.sent(mta), c.treatment(mta)
	var got, want []string
	for _, delivery := range deliveries {
		if want := "<" + d.address(c.sender) + ">"; delivery.Sender != want {
			t.Errorf("delivered from %s, want %s", delivery.Sender, want)
		}
		got = append(got, delivery.Recipients...)
		c.checkHeader(t, mta, delivery.Header(), w)
		body := delivery.Body()
		if d.breaks != "" {
			body = bytes.ReplaceAll(body, []byte(d.breaks), nil)
		}
		if lab.Hash(body) != lab.Hash(sent.body) {
			t.Errorf("the body has hash %s, want %s: it is %s", lab.Hash(body), lab.Hash(sent.body), parting(body, sent.body))
		}
	}
	for _, recipient := range w.recipients {
		want = append(want, "<"+d.address(recipient)+">")
	}
	slices.Sort(got) // the MTA delivers in an order of its own
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("delivered to %q, want %q", got, want)
	}
}

// checkHeader compares the header of a delivered mail, field by field.
func (c *testCase) checkHeader(t *testing.T, mta *lab.MTA, got []lab.Field, w want) {
	t.Helper()
	want := append(slices.Clone(w.top), receivedByMTA(mta, "helo.remote.test", "ESMTP"))
	want = append(want, c.treatment(mta).puts...)
	changed := maps.Clone(w.changed)
	for _, field := range c.sent(mta).header {
		if expression, ok := changed[field.Name]; ok {
			want = append(want, expression)
			delete(changed, field.Name)
		} else if !slices.Contains(w.gone, field.Name) {
			want = append(want, verbatim+field.String())
		}
	}
	want = append(want, w.bottom...)
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("no header field %d, want %s", i+1, want[i])
			return
		case i >= len(want):
			t.Errorf("header field %d is %q, want none", i+1, got[i])
			return
		}
		if ok, err := matches(want[i], got[i].String()); err != nil || !ok {
			t.Errorf("header field %d is %q, want %q (%v)", i+1, got[i], want[i], err)
			return // the others may only have moved
		}
	}
}

// verbatim begins what is meant as it stands, where otherwise an expression is.
const verbatim = "="

// matches reports whether a text is what is wanted.
func matches(want, got string) (bool, error) {
	if text, ok := strings.CutPrefix(want, verbatim); ok {
		return text == got, nil
	}
	return regexp.MatchString(want, got)
}

// checkSummary asks for exactly one line of ours about the message.
func checkSummary(t *testing.T, p *lab.Pipeline, mark int, queueID string) {
	t.Helper()
	err := lab.Poll(logTimeout, "the summary line", func() error {
		n := 0
		for _, line := range p.Syslog.Since(mark, "amavis-milter") {
			if strings.HasPrefix(line.Text, queueID+": verdict=") {
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
