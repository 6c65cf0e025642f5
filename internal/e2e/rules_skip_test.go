package e2e

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// skipFlags are rules of every kind but size; the first one that fits is told.
var skipFlags = []string{
	"--skip auth", "--skip 192.0.2.66", "--skip 2001:db8::66/128", "--skip tls", "--skip local",
	"--skip daemon:msa", "--skip daemon:MSA",
}

// skipVisit is a client and the rule by which its mail is not scanned; empty if it
// is.
type skipVisit struct {
	visit
	rule string
}

var skipVisits = []skipVisit{
	{visit{name: "nobody", from: lab.ClientAddress}, ""},
	{visit{name: "network", from: lab.UnknownAddress}, "192.0.2.66/32"},
	{visit{name: "beside the network", from: lab.ForgedAddress}, ""},
	{visit{name: "network on an IPv6 socket", from: lab.UnknownAddress, to: mapped}, "192.0.2.66/32"},
	{visit{name: "IPv6 network", from: lab.UnknownAddress6, to: address6}, "2001:db8::66/128"},
	{visit{name: "beside the IPv6 network", from: lab.ClientAddress6, to: address6}, ""},
	{visit{name: "tls", from: lab.ClientAddress, tls: true}, "tls"},
	{visit{name: "local", from: "127.0.0.1"}, "local"},
	{visit{name: "daemon", from: lab.ClientAddress, to: submission}, "daemon:MSA"},
	{visit{name: "auth", from: lab.ClientAddress, to: submission, auth: true}, "auth"},
	{visit{name: "auth before network and tls", from: lab.UnknownAddress, to: submission, tls: true, auth: true}, "auth"},
}

// TestSkip: what a rule names passes without amavisd, marked and logged; all else
// is scanned.
func TestSkip(t *testing.T) { onEach(t, lab.Reject, testSkip) }

func testSkip(t *testing.T, p *lab.Pipeline) {
	withService(t, p, skipFlags...)
	for _, v := range skipVisits {
		v.greeting = "EHLO helo.remote.test"
		if v.listener(p.MTA) != "" {
			t.Run(v.name, func(t *testing.T) { checkSkip(t, p, v.open(t, p.MTA), markedSpam(0), v.rule) })
		}
	}
	t.Run("without SMTP", func(t *testing.T) { checkLocalSkip(t, p) })
}

// checkLocalSkip: both ways in which mail reaches the milter without SMTP over the
// network are local.
func checkLocalSkip(t *testing.T, p *lab.Pipeline) {
	t.Helper()
	if p.MTA == lab.Sendmail {
		checkSkip(t, p, sendmailOnStdio(t), markedSpam(0), "local")
		return
	}
	delivered, requests := p.Sink.Mark(), p.Relay.Mark()
	raw := markedSpam(0)
	submit(t, strings.ReplaceAll(string(raw), "\r\n", "\n"), "/usr/sbin/sendmail", "-f", sender, user)
	checkUnscanned(t, p.MTA, awaitDelivery(t, p, delivered), raw)
	mustSpoolEmpty(t, p)
	if n := len(p.Relay.Exchanges(requests)); n != 0 {
		t.Errorf("amavisd was asked %d times, want never", n)
	}
}

// markedSpam is a mail that no scanner passes, which says of itself that it was
// scanned, and that it was not. It has n bytes, if that is enough.
func markedSpam(n int) []byte {
	raw := lab.Text(lab.Header(sender, user, "buy")+"x-virus-scanned: by me\r\nX-Amavis-Milter-Unscanned: not at all\r\n"+
		"X-Virus-Scanned: by amavis-milter\r\nX-Note: this one stays\r\nx-amavis-milter-UNSCANNED: timeout\r\n", lab.GTUBEBody())
	const line = "All work and no play makes Jack a dull boy.\r\n"
	for len(raw)+2*len(line) < n {
		raw = append(raw, line...)
	}
	if more := n - len(raw) - len("\r\n"); more >= 0 {
		raw = append(raw, strings.Repeat("x", more)+"\r\n"...)
	}
	return raw
}

// forgedMarks are the names of the fields of markedSpam that must not arrive.
var forgedMarks = regexp.MustCompile(`(?i)^(X-Virus-Scanned|X-Amavis-Milter-Unscanned)$`)

// checkSkip sends a mail that passes only by a rule; without one, amavisd must
// refuse it.
func checkSkip(t *testing.T, p *lab.Pipeline, client *lab.Client, raw []byte, rule string) {
	t.Helper()
	delivered, requests, logged := p.Sink.Mark(), p.Relay.Mark(), p.Syslog.Mark()
	reply := send(t, client, sender, []string{user}, raw)
	mustSpoolEmpty(t, p)
	asked := len(p.Relay.Exchanges(requests))
	if rule == "" {
		if asked != 1 || !strings.HasPrefix(reply.String(), "554 5.7.0 Reject") {
			t.Errorf("amavisd was asked %d times, and the client told %q; want once, and a reject", asked, reply)
		}
		return
	}
	if asked != 0 || queueID(p.MTA, reply) == "" {
		t.Fatalf("amavisd was asked %d times, and the client told %q; want never, and that the mail is taken", asked, reply)
	}
	checkUnscanned(t, p.MTA, deliveredTo(t, p, delivered, user), raw)
	checkSkipLogged(t, p, logged, queueID(p.MTA, reply), rule, len(raw))
}

// checkUnscanned compares a delivered mail with what was sent: the forged marks are
// gone, ours is there, nothing else has changed. It is the last field, but sendmail
// puts it where the first one of that name was.
func checkUnscanned(t *testing.T, mta *lab.MTA, d *lab.Delivery, raw []byte) {
	t.Helper()
	sent, body := lab.SplitMessage(raw)
	const mark = "X-Amavis-Milter-Unscanned: skipped"
	var want []string
	for _, field := range sent {
		if mta == lab.Sendmail && field.Name == "X-Amavis-Milter-Unscanned" {
			want = append(want, mark)
		} else if !forgedMarks.MatchString(field.Name) {
			want = append(want, field.String())
		}
	}
	if mta != lab.Sendmail {
		want = append(want, mark)
	}
	header := d.Header()
	if len(header) == 0 || header[0].Name != "Received" {
		t.Fatalf("delivered with the header %q, want the Received field of %s first", header, mta.Name)
	}
	var got []string
	for _, field := range header[1:] {
		got = append(got, field.String())
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("delivered with the header\n%q, want\n%q", got, want)
	}
	if !bytes.Equal(d.Body(), body) {
		t.Errorf("delivered with the body\n%q, want\n%q", cut(d.Body()), cut(body))
	}
}

// checkSkipLogged asks for one line about the mail, and no other: the administrator
// wants it so and need not be warned.
func checkSkipLogged(t *testing.T, p *lab.Pipeline, mark int, id, rule string, size int) {
	t.Helper()
	var lines []lab.LogLine
	err := lab.Poll(logTimeout, "the line about the mail", func() error {
		lines = slices.DeleteFunc(p.Syslog.Since(mark, "amavis-milter"), func(line lab.LogLine) bool {
			return !strings.HasPrefix(line.Text, id+": ") // of the mail before
		})
		if len(lines) == 0 {
			return errors.New("there is none yet")
		}
		return nil
	})
	want := regexp.MustCompile(`: verdict=accept from=<someone@remote\.test> nrcpt=1 size=` + strconv.Itoa(size) +
		` cause=skipped rule="?` + regexp.QuoteMeta(rule) + `"? wait=0\.000 scan=0\.000 client=`)
	if err != nil || len(lines) != 1 || !want.MatchString(lines[0].Text) {
		t.Errorf("log lines %q, error %v; want one like %s", lines, err, want)
	}
	const mailInfo = "22" // facility mail, severity info (RFC 5424 section 6.2.1)
	if len(lines) == 1 && lines[0].Priority != mailInfo {
		t.Errorf("the line has priority %s, want %s", lines[0].Priority, mailInfo)
	}
}

// TestSkipSize: a mail of as many bytes as the rule names is scanned, one with a byte
// more is not. What counts is the mail as the client sends it.
func TestSkipSize(t *testing.T) { onEach(t, lab.Reject, testSkipSize) }

func testSkipSize(t *testing.T, p *lab.Pipeline) {
	const limit = 4000                         // bytes
	withService(t, p, "--skip", "'size>4000'") // quoted once more: a shell reads it
	client := connect(t, p)
	for _, c := range []struct {
		name string
		size int
		rule string
	}{
		{"a byte less", limit - 1, ""},
		{"as many", limit, ""},
		{"a byte more", limit + 1, "size>4000"},
		{"much more", 1 << 20, "size>4000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := markedSpam(c.size)
			if len(raw) != c.size {
				t.Fatalf("the mail has %d bytes, want %d", len(raw), c.size)
			}
			checkSkip(t, p, client, raw, c.rule)
		})
	}
}
