package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// marks are what had been seen before something was done.
type marks struct{ delivered, requests, logged int }

func now(p *lab.Pipeline) marks { return marks{p.Sink.Mark(), p.Relay.Mark(), p.Syslog.Mark()} }

// asked is a mail that amavisd was asked about.
type asked struct {
	sender     string // without brackets, as in all tests
	recipients []string
}

// mustAsk fails unless amavisd was asked about these mails, in this order, each
// once, and nothing of them is left. It returns the exchanges.
func (m marks) mustAsk(t *testing.T, p *lab.Pipeline, want ...asked) []lab.Exchange {
	t.Helper()
	exchanges := p.Relay.Exchanges(m.requests)
	if len(exchanges) != len(want) {
		m.tell(t, p, "")
		t.Fatalf("amavisd was asked %d times, want %d", len(exchanges), len(want))
	}
	for i, exchange := range exchanges {
		if got := attribute(t, exchange, "sender"); !slices.Equal(got, paths(want[i].sender)) {
			t.Errorf("mail %d: amavisd was told sender=%q, want %q", i+1, got, paths(want[i].sender))
		}
		if got := attribute(t, exchange, "recipient"); !slices.Equal(got, paths(want[i].recipients...)) {
			t.Errorf("mail %d: amavisd was told recipient=%q, want %q", i+1, got, paths(want[i].recipients...))
		}
	}
	mustSpoolEmpty(t, p)
	return exchanges
}

// mustDeliver waits for the end of all delivery and fails unless these recipients,
// in any order, got a mail each.
func (m marks) mustDeliver(t *testing.T, p *lab.Pipeline, recipients ...string) []*lab.Delivery {
	t.Helper()
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	deliveries := p.Sink.Deliveries(m.delivered)
	var got []string
	for _, d := range deliveries {
		got = append(got, d.Recipients...)
	}
	want := paths(recipients...)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		m.tell(t, p, "")
		t.Errorf("delivered to %q, want %q", got, want)
	}
	return deliveries
}

// tell shows what was logged about a queue id, or about all if it is empty; amavisd
// is too talkative.
func (m marks) tell(t *testing.T, p *lab.Pipeline, queueID string) {
	t.Helper()
	for _, line := range p.Syslog.Since(m.logged, "") {
		if line.Ident != "amavis" && strings.Contains(line.Text, queueID) {
			t.Logf("log: %s: %s", line.Ident, line.Text)
		}
	}
}

// paths puts addresses in angle brackets.
func paths(addresses ...string) []string {
	var in []string
	for _, address := range addresses {
		in = append(in, "<"+address+">")
	}
	return in
}

// mustTake fails unless the reply says that the MTA took the mail; it returns the
// queue id.
func mustTake(t *testing.T, p *lab.Pipeline, reply lab.Reply, err error) string {
	t.Helper()
	id := queueID(p.MTA, reply)
	if err != nil || id == "" {
		t.Fatalf("the client was told %q, error %v", reply, err)
	}
	return id
}
