package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// TestIdentityInSession: what a client has proved lasts as long as for the MTA, and
// no longer.
func TestIdentityInSession(t *testing.T) { onEach(t, lab.TagAndDiscard, testIdentityInSession) }

func testIdentityInSession(t *testing.T, p *lab.Pipeline) {
	v := visit{from: lab.ClientAddress, to: submission, greeting: "EHLO helo.remote.test", tls: true, auth: true, clientName: lab.ClientName}
	client := v.open(t, p.MTA)
	exchange, delivery, _ := sendPlainly(t, p, client, sender)
	v.checkRequest(t, p.MTA, exchange, client)
	mustTests(t, delivery, "ALL_TRUSTED")

	// Another mail of the session, after one that was given up.
	mustReply(t, client, "MAIL FROM:<first@remote.test>", 250)
	mustReply(t, client, "RCPT TO:<first@lab.test>", 250)
	mustReply(t, client, "RSET", 250)
	exchange, delivery, _ = sendPlainly(t, p, client, sender)
	v.checkRequest(t, p.MTA, exchange, client)
	mustTests(t, delivery, "ALL_TRUSTED")

	// A name said anew counts from then on.
	v.greeting = "EHLO again.remote.test"
	mustReply(t, client, v.greeting, 250)
	exchange, _, _ = sendPlainly(t, p, client, sender)
	v.checkRequest(t, p.MTA, exchange, client)
	if err := client.Quit(); err != nil {
		t.Error(err)
	}

	// The next session of the same client has proved nothing.
	v.greeting, v.tls, v.auth = "EHLO helo.remote.test", false, false
	client = v.open(t, p.MTA)
	for range 2 {
		exchange, delivery, _ = sendPlainly(t, p, client, sender)
		v.checkRequest(t, p.MTA, exchange, client)
		mustTests(t, delivery, "KHOP_HELO_FCRDNS", "LAB_CLIENT")
		mustReply(t, client, "RSET", 250)
	}
}

func mustTests(t *testing.T, d *lab.Delivery, want ...string) {
	t.Helper()
	if got := onlyAboutClients(testsOf(d)); !slices.Equal(got, want) {
		t.Errorf("SpamAssassin finds %q, want %q", got, want)
	}
}

// TestNoHeloAfterStartTLS: a client that does not greet anew after STARTTLS, as
// RFC 3207 section 4.2 wants it to, still counts as encrypted. Postfix forgets the
// name, but does not tell the milter.
func TestNoHeloAfterStartTLS(t *testing.T) { onEach(t, lab.TagAndDiscard, testNoHeloAfterStartTLS) }

func testNoHeloAfterStartTLS(t *testing.T, p *lab.Pipeline) {
	client := connect(t, p)
	if err := client.StartTLS(); err != nil {
		t.Fatal(err)
	}
	exchange, _, _ := sendPlainly(t, p, client, sender)
	want := map[string]string{"helo_name": "helo.remote.test", "protocol_name": "ESMTPS"}
	if p.MTA == lab.Sendmail {
		want["protocol_name"] = "ESMTP" // as in its own Received field
	}
	mustAttributes(t, exchange, want)
	if version, cipher := client.TLS(); !strings.Contains(firstField(exchange.Spooled), "(version="+version+" cipher="+cipher+" ") {
		t.Errorf("the mail file begins with %q, want TLS", firstField(exchange.Spooled))
	}
}

// TestLocalSubmission: mail from the host itself, without SMTP.
func TestLocalSubmission(t *testing.T) { onEach(t, lab.TagAndDiscard, testLocalSubmission) }

func testLocalSubmission(t *testing.T, p *lab.Pipeline) {
	if p.MTA == lab.Postfix {
		postfixSubmission(t, p)
		return
	}
	sendmailSubmission(t, p)
}

// submit runs a command with some input.
func submit(t *testing.T, input, command string, args ...string) {
	t.Helper()
	cmd := exec.Command(command, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", command, args, err, out)
	}
}

func localMail(t *testing.T, subject string) string {
	t.Helper()
	return strings.ReplaceAll(string(lab.Text(lab.Header(sender, user, subject), lab.CleanBody)), "\r\n", "\n")
}

// awaitDelivery returns the one mail that is delivered since a mark.
func awaitDelivery(t *testing.T, p *lab.Pipeline, mark int) *lab.Delivery {
	t.Helper()
	err := lab.Poll(noticeTimeout, "the mail to be delivered", func() error {
		if n := len(p.Sink.Deliveries(mark)); n != 1 {
			return fmt.Errorf("%d mails were", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p.Sink.Deliveries(mark)[0]
}

// Postfix tells the milter of such mail as if it came from 127.0.0.1 by SMTP. In
// its own Received field it names no client; SpamAssassin trusts both.
func postfixSubmission(t *testing.T, p *lab.Pipeline) {
	delivered, requests := p.Sink.Mark(), p.Relay.Mark()
	submit(t, localMail(t, "by sendmail"), "/usr/sbin/sendmail", "-f", sender, user)
	delivery := awaitDelivery(t, p, delivered)
	exchange := oneExchange(t, p, requests)
	mustAttributes(t, exchange, map[string]string{
		"client_name": "localhost", "client_address": "127.0.0.1", "client_port": "",
		"helo_name": "localhost", "protocol_name": "ESMTP", "policy_bank": "", "sender": "<" + sender + ">",
	})
	mustTests(t, delivery, "ALL_TRUSTED")
	mustBeginWith(t, exchange.Spooled, "Received: from localhost (localhost [127.0.0.1])\n\tby mx.lab.test (amavis-milter) with ESMTP id ")
}

func mustBeginWith(t *testing.T, file []byte, want string) {
	t.Helper()
	if got := firstField(file); !strings.HasPrefix(got, want) {
		t.Errorf("the mail file begins with %q, want %q", got, want)
	}
}

// sendmailProgram is sendmail with the configuration of the MTA, not the one of
// sendmail's submission program.
const sendmailProgram = "/usr/libexec/sendmail/sendmail"

// sendmail has no client for SMTP over its standard input, and says so to the
// milter and in its own Received field; to mail that is no SMTP at all it does not
// apply milters.
func sendmailSubmission(t *testing.T, p *lab.Pipeline) {
	delivered, requests := p.Sink.Mark(), p.Relay.Mark()
	submit(t, localMail(t, "by the command"), sendmailProgram, "-f", sender, user)
	if d := awaitDelivery(t, p, delivered); len(d.Values("X-Virus-Scanned")) > 0 || len(p.Relay.Exchanges(requests)) > 0 {
		t.Errorf("sendmail applies milters to mail without SMTP; delivered:\n%s", cut(d.Raw))
	}

	exchange, delivery, _ := sendPlainly(t, p, sendmailOnStdio(t), sender)
	mustAttributes(t, exchange, map[string]string{
		"client_name": "", "client_address": "", "client_port": "",
		"helo_name": "helo.lab.test", "protocol_name": "ESMTP", "policy_bank": "", "sender": "<" + sender + ">",
	})
	mustTests(t, delivery, "NO_RELAYS")
	mustBeginWith(t, exchange.Spooled, "Received: (from unknown@localhost)\n\tby mx.lab.test (amavis-milter) with ESMTP id ")
}

// sendmailOnStdio opens a session with sendmail on its standard input. The directory
// that it would complain about is for deliveries.
func sendmailOnStdio(t *testing.T) *lab.Client {
	t.Helper()
	client, _, err := lab.RunSMTP(sendmailProgram, "-OHostStatusDirectory=", "-bs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	mustReply(t, client, "EHLO helo.lab.test", 250)
	return client
}
