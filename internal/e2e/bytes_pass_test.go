package e2e

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// passage is what became of a message.
type passage struct {
	shape      shape
	reply      lab.Reply // to its end
	exchanges  []lab.Exchange
	deliveries []*lab.Delivery
}

// passAll sends messages over one SMTP connection, one after the other, and
// returns when the MTA has delivered what it took.
func passAll(t *testing.T, p *lab.Pipeline, shapes []shape) []passage {
	t.Helper()
	client := connect(t, p)
	passages := make([]passage, len(shapes))
	bySender := map[string]*passage{}
	delivered := p.Sink.Mark()
	for i, s := range shapes {
		passed := &passages[i]
		from := fmt.Sprintf("shape-%d@remote.test", i+1)
		bySender["<"+from+">"] = passed
		requests := p.Relay.Mark()
		passed.shape = s
		passed.reply = s.send(t, client, from)
		passed.exchanges = p.Relay.Exchanges(requests)
	}
	if err := client.Quit(); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, d := range p.Sink.Deliveries(delivered) {
		if passed := bySender[d.Sender]; passed != nil {
			passed.deliveries = append(passed.deliveries, d)
		}
	}
	return passages
}

// send sends the message and returns the last reply.
func (s shape) send(t *testing.T, client *lab.Client, from string) lab.Reply {
	t.Helper()
	to := s.to
	if to == "" {
		to = user
	}
	if !s.asBDAT {
		return send(t, client, from, []string{to}, s.raw)
	}
	if !slices.Contains(client.Transcript, "S: 250-CHUNKING") && !slices.Contains(client.Transcript, "S: 250 CHUNKING") {
		reply, err := client.Command("BDAT 0 LAST")
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	mustReply(t, client, "MAIL FROM:<"+from+"> BODY=8BITMIME", 250)
	mustReply(t, client, "RCPT TO:<"+to+">", 250)
	if err := client.Write(fmt.Appendf(nil, "BDAT %d LAST\r\n%s", len(s.raw), s.raw)); err != nil {
		t.Fatal(err)
	}
	reply, err := client.ReadReply()
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// ourReceived is the field that stands first in the mail file: it ends in its date.
var ourReceived = regexp.MustCompile(`\AReceived: from [^\n]*\n(?:\t[^\n]*\n)*?\t[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]{8} [+-]\d{4}\n`)

// spooled returns the mail file that amavisd was asked about, without our field.
func (p *passage) spooled() ([]byte, error) {
	if len(p.exchanges) != 1 {
		return nil, fmt.Errorf("amavisd was asked %d times, want once; the client was told %q", len(p.exchanges), p.reply)
	}
	file := p.exchanges[0].Spooled
	end := ourReceived.FindIndex(file)
	if end == nil {
		return nil, fmt.Errorf("the mail file does not begin with our Received field: %q", cut(file))
	}
	return file[end[1]:], nil
}

// delivered returns the one message that was delivered.
func (p *passage) delivered() (*lab.Delivery, error) {
	if len(p.deliveries) != 1 {
		return nil, fmt.Errorf("delivered %d times, want once; the client was told %q", len(p.deliveries), p.reply)
	}
	return p.deliveries[0], nil
}

// lf turns CR LF into LF, as it is in the mail file.
func lf(raw []byte) []byte { return bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")) }

// crlf is the opposite of lf.
func crlf(file []byte) []byte { return bytes.ReplaceAll(file, []byte("\n"), []byte("\r\n")) }

// sameBytes returns an error that shows where got differs from want.
func sameBytes(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	const before, after = 40, 80 // bytes shown around the difference
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	around := func(b []byte) []byte { return b[max(0, at-before):min(len(b), at+after)] }
	return fmt.Errorf("%d bytes, want %d; from byte %d on they differ:\n got …%q…\nwant …%q…", len(got), len(want), at, around(got), around(want))
}
