package e2e

import (
	"errors"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// noticeTimeout is how long the MTA may take to notice a client that hung up and
// to tell the milter.
const noticeTimeout = 10 * time.Second

func cleanMail(subject string) []byte {
	return lab.Text(lab.Header(sender, user, subject), lab.CleanBody)
}

// deliveredTo fails unless one mail was delivered since the mark, to exactly one
// recipient; it returns that mail.
func deliveredTo(t *testing.T, p *lab.Pipeline, mark int, recipient string) *lab.Delivery {
	t.Helper()
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	deliveries := p.Sink.Deliveries(mark)
	if len(deliveries) != 1 || len(deliveries[0].Recipients) != 1 || deliveries[0].Recipients[0] != "<"+recipient+">" {
		t.Fatalf("delivered: %v; want one mail to <%s>", deliveries, recipient)
	}
	return deliveries[0]
}

// TestNothingBeforeData: a transaction that never comes to DATA touches no disk.
func TestNothingBeforeData(t *testing.T) { onEach(t, lab.TagAndDiscard, testNothingBeforeData) }

func testNothingBeforeData(t *testing.T, p *lab.Pipeline) {
	client := connect(t, p)
	mustReply(t, client, "MAIL FROM:<"+sender+">", 250)
	mustReply(t, client, "RCPT TO:<"+user+">", 250)
	mustSpoolEmpty(t, p)
	mustReply(t, client, "DATA", 354)
	mustSpool(t, p, 1) // the MTA does not wait for the milter at DATA
	if _, err := client.Data(cleanMail("after a look")); err != nil {
		t.Fatal(err)
	}
	mustSpoolEmpty(t, p)
	if err := p.Flush(); err != nil {
		t.Error(err)
	}
}

// mustSpool waits until there are so many directories in the spool.
func mustSpool(t *testing.T, p *lab.Pipeline, want int) {
	t.Helper()
	err := lab.Poll(noticeTimeout, fmt.Sprintf("%d directories in the spool", want), func() error {
		names, err := p.Spool()
		if err == nil && len(names) != want {
			err = fmt.Errorf("%q are in it", names)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestReset: what came before RSET is forgotten, the session goes on, and a new
// HELO name counts.
func TestReset(t *testing.T) { onEach(t, lab.TagAndDiscard, testReset) }

func testReset(t *testing.T, p *lab.Pipeline) {
	delivered, requests := p.Sink.Mark(), p.Relay.Mark()
	client := connect(t, p)
	mustReply(t, client, "MAIL FROM:<first@remote.test>", 250)
	mustReply(t, client, "RCPT TO:<first@lab.test>", 250)
	mustReply(t, client, "RSET", 250)
	mustReply(t, client, "EHLO second.remote.test", 250)
	reply := send(t, client, sender, []string{user}, cleanMail("after RSET"))
	if queueID(p.MTA, reply) == "" {
		t.Fatalf("the client was told %q", reply)
	}
	deliveredTo(t, p, delivered, user)
	exchanges := p.Relay.Exchanges(requests)
	if len(exchanges) != 1 {
		t.Fatalf("amavisd was asked %d times, want once", len(exchanges))
	}
	for name, want := range map[string]string{"helo_name": "second.remote.test", "sender": "<" + sender + ">", "recipient": "<" + user + ">"} {
		if got := attribute(t, exchanges[0], name); len(got) != 1 || got[0] != want {
			t.Errorf("amavisd was told %s=%q, want %q", name, got, want)
		}
	}
}

func attribute(t *testing.T, exchange lab.Exchange, name string) []string {
	t.Helper()
	attributes, err := lab.Attributes(exchange.Request)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, a := range attributes {
		if a.Name == name {
			values = append(values, a.Value)
		}
	}
	return values
}

// TestClientHangsUp: a client that is gone in the middle of the data leaves
// nothing, and nothing of it is delivered.
func TestClientHangsUp(t *testing.T) { onEach(t, lab.TagAndDiscard, testClientHangsUp) }

func testClientHangsUp(t *testing.T, p *lab.Pipeline) {
	delivered, requests := p.Sink.Mark(), p.Relay.Mark()
	client := connect(t, p)
	envelope(t, client, sender, []string{user})
	half := cleanMail("cut off")
	if err := client.Write(half[:len(half)/2]); err != nil {
		t.Fatal(err)
	}
	mustSpool(t, p, 1)
	client.Close()
	mustSpool(t, p, 0)
	reply := send(t, connect(t, p), sender, []string{user}, cleanMail("the next one"))
	if queueID(p.MTA, reply) == "" {
		t.Errorf("the next client was told %q", reply)
	}
	deliveredTo(t, p, delivered, user)
	if n := len(p.Relay.Exchanges(requests)); n != 1 {
		t.Errorf("amavisd was asked %d times, want once", n)
	}
}

// TestClientWithoutName: SpamAssassin must see a client that has no name as one.
func TestClientWithoutName(t *testing.T) { onEach(t, lab.TagAndDiscard, testClientWithoutName) }

func testClientWithoutName(t *testing.T, p *lab.Pipeline) {
	delivered, requests := p.Sink.Mark(), p.Relay.Mark()
	client, _, err := lab.DialSMTP(lab.UnknownAddress, p.MTA.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	mustReply(t, client, "EHLO helo.remote.test", 250)
	if reply := send(t, client, sender, []string{user}, cleanMail("from nowhere")); queueID(p.MTA, reply) == "" {
		t.Fatalf("the client was told %q", reply)
	}
	d := deliveredTo(t, p, delivered, user)
	rules := regexp.MustCompile(`(?s)tests=\[.*LAB_UNKNOWN=0\.01`)
	if status := d.Values("X-Spam-Status"); len(status) != 1 || !rules.MatchString(status[0]) {
		t.Errorf("SpamAssassin said %q, want %s", status, rules)
	}
	exchanges := p.Relay.Exchanges(requests)
	if len(exchanges) != 1 {
		t.Fatalf("amavisd was asked %d times, want once", len(exchanges))
	}
	if got := attribute(t, exchanges[0], "client_address"); len(got) != 1 || got[0] != lab.UnknownAddress {
		t.Errorf("amavisd was told client_address=%q, want %s", got, lab.UnknownAddress)
	}
}

// TestStopInMidSession: the init script stops the program in the middle of a
// session and leaves no socket; sendmail then says 451, for F=T. Once it runs
// again mail is taken.
func TestStopInMidSession(t *testing.T) { onEach(t, lab.TagAndDiscard, testStopInMidSession) }

func testStopInMidSession(t *testing.T, p *lab.Pipeline) {
	client := connect(t, p)
	mustReply(t, client, "MAIL FROM:<"+sender+">", 250)
	if err := p.Milter.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := lab.Gone(p.MTA.MilterSocket); err != nil {
		t.Error(err)
	}
	other, _, err := lab.DialSMTP(lab.ClientAddress, p.MTA.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_, err1 := other.Command("EHLO helo.remote.test")
	reply, err2 := other.Command("MAIL FROM:<" + sender + ">")
	if err := errors.Join(err1, err2); err != nil || reply.Code != 451 {
		t.Errorf("without a milter MAIL was answered %q, error %v; want 451", reply, err)
	}
	if err := p.RestartMilter(); err != nil {
		t.Fatal(err)
	}
	if reply := send(t, connect(t, p), sender, []string{user}, cleanMail("after a restart")); queueID(p.MTA, reply) == "" {
		t.Errorf("after the restart the client was told %q", reply)
	}
	if err := p.Flush(); err != nil {
		t.Error(err)
	}
}
