package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// diffOrdinary is the mail of cases that are about something else. It has a field
// twice, and one that is folded, for the edits.
var diffOrdinary = lab.Text(strings.Join([]string{
	"Received: from b.remote.test by a.remote.test; Thu, 1 Jan 1970 00:00:01 +0000",
	"Received: from c.remote.test by b.remote.test; Thu, 1 Jan 1970 00:00:00 +0000",
	"Date: Thu, 1 Jan 1970 00:00:00 +0000",
	"From: Some One <someone@remote.test>",
	"To: <user@lab.test>",
	"Subject: minutes",
	"Message-ID: <1@remote.test>",
	"X-Twice: one", "X-Twice: two",
	"X-Folded: one", "\ttwo",
	"MIME-Version: 1.0", ""}, "\r\n"), lab.CleanBody)

// The listeners that are not the MTA's port 25.
var (
	diffOnIPv6       = func(mta *lab.MTA) string { return mta.Address6 }
	diffOnMapped     = func(mta *lab.MTA) string { return mta.Mapped }
	diffOnSubmission = func(mta *lab.MTA) string { return mta.Submission }
)

// The setups.
var (
	diffWithBank    = diffSetup{letters: "-B"}
	diffPassing     = diffSetup{letters: "-P"}
	diffImpatient   = diffSetup{letters: "-T 1"}
	diffAway        = diffSetup{scanner: diffNobody}
	diffAwayPassing = diffSetup{letters: "-P", scanner: diffNobody}
	diffByServer    = diffSetup{letters: "-D server"}
	diffOne         = diffSetup{letters: "-m 1 -M 5"}
	diffColon       = diffSetup{letters: "-m 4", scanner: "local:" + diffScanner}
)

// diffCases are all cases, each with a name of its own.
func diffCases(t *testing.T) []diffCase {
	t.Helper()
	all := diffFactCases()
	for _, more := range [][]diffCase{diffMessageCases(), diffVerdictCases(), diffEditCases(), diffFailureCases()} {
		all = append(all, more...)
	}
	for _, c := range allCases(t) {
		all = append(all, diffTestCase(c))
	}
	names := map[string]bool{}
	for _, c := range all {
		if names[c.name] {
			t.Fatalf("two cases %q", c.name)
		}
		names[c.name] = true
	}
	return all
}

// diffClean is what amavisd answers to a clean mail of the other end-to-end tests.
var diffClean = ampdptest.Continue(
	ampdptest.Line("insheader", "1", "X-Spam-Status", "No, score=0.01 tagged_above=-999 required=6.31\n tests=[LAB_CLIENT=0.01] autolearn=disabled"),
	ampdptest.Line("insheader", "1", "X-Spam-Flag", "NO"),
)

// diffEncoded is what only amavisd's unpacking is about.
var diffEncoded = regexp.MustCompile(`(?i)boundary=|encoding: (base64|quoted)`)

// diffTestCase makes a case of one of the other end-to-end tests. Where amavisd has
// edits to make, the real one scans; it would take too long over all of them.
func diffTestCase(c testCase) diffCase {
	commands := []string{strings.TrimSpace("MAIL FROM:<" + c.sender + "> " + c.mail)}
	for _, recipient := range c.recipients {
		commands = append(commands, strings.TrimSpace("RCPT TO:<"+recipient+"> "+c.rcpt))
	}
	d := diffCase{name: "mail, " + c.name, scan: diffClean, mails: []diffMail{{append(commands, "DATA"), c.raw}}}
	switch w := c.want[lab.Extensions.Name]; {
	case w.recipients == nil:
		d.scan = ampdptest.Verdict("discard", "250", "2.7.0", "Ok, discarded, id=01234-01")
	case diffEncoded.Match(c.raw):
	case len(w.changed) > 0 || len(w.gone) > 0 || len(w.recipients) != len(c.recipients):
		d.name, d.scan = "amavisd, "+c.name, nil
	}
	return d
}

// diffFactCases are about what amavisd is told of the client and the envelope.
func diffFactCases() []diffCase {
	ok := ampdptest.Continue()
	envelope := func(name string, commands ...string) diffCase {
		return diffCase{name: name, scan: ok, mails: []diffMail{{commands: append(commands, "DATA")}}}
	}
	from, to := diffUsual[0], diffUsual[1]
	cases := []diffCase{
		{name: "ordinary", scan: ok},
		{name: "-B", setup: diffWithBank, scan: ok},
		{name: "-D server", setup: diffByServer, scan: ok},
		{name: "-S local:/path -m 4", setup: diffColon, scan: ok},
		{name: "-m 1", setup: diffOne, scan: ok},
		{name: "submitted by sendmail(1)", scan: ok, command: []string{"/usr/sbin/sendmail", "-f", sender, user}, only: lab.Postfix},
		{name: "SMTP without a client", scan: ok, stdio: []string{"/usr/libexec/sendmail/sendmail", "-OHostStatusDirectory=", "-bs"}, only: lab.Sendmail},
		{name: "HELO", scan: ok, hello: "HELO helo.remote.test"},
		{name: "EHLO with an address", scan: ok, hello: "EHLO [192.0.2.10]"},
		{name: "EHLO with a word", scan: ok, hello: "EHLO WINDOWS-PC"},
		{name: "client without a name", scan: ok, client: lab.UnknownAddress},
		{name: "client with a forged name", scan: ok, client: lab.ForgedAddress},
		{name: "client on this host", scan: ok, client: "127.0.0.1"},
		{name: "IPv6", scan: ok, client: lab.ClientAddress6, listener: diffOnIPv6},
		{name: "IPv6 without a name", scan: ok, client: lab.UnknownAddress6, listener: diffOnIPv6},
		{name: "IPv4 on an IPv6 socket", scan: ok, listener: diffOnMapped, only: lab.Sendmail},
		{name: "STARTTLS", scan: ok, tls: true},
		{name: "AUTH", scan: ok, auth: true, listener: diffOnSubmission},
		{name: "AUTH over TLS", scan: ok, auth: true, tls: true, listener: diffOnSubmission},
		{name: "-B, AUTH", setup: diffWithBank, scan: ok, auth: true, listener: diffOnSubmission},
		{name: "-B, AUTH over TLS", setup: diffWithBank, scan: ok, auth: true, tls: true, listener: diffOnSubmission},
		{name: "-B, STARTTLS", setup: diffWithBank, scan: ok, tls: true},
		envelope("null sender", "MAIL FROM:<>", to),
		envelope("sender without brackets", "MAIL FROM:someone@remote.test", to),
		envelope("recipient without brackets", from, "RCPT TO:user@lab.test"),
		envelope("sender with parameters", "MAIL FROM:<someone@remote.test> SIZE=2000 BODY=8BITMIME RET=HDRS ENVID=x", to),
		envelope("sender with a route", "MAIL FROM:<@relay.test:someone@remote.test>", to),
		envelope("sender and recipient as routes of other networks", "MAIL FROM:<remote.test!someone>", "RCPT TO:<user%lab.test>"),
		envelope("sender in quotes", `MAIL FROM:<"some one,%=>"@remote.test>`, to),
		envelope("sender with percent and equals", "MAIL FROM:<bounce+user=lab.test%x@remote.test>", to),
		envelope("sender in capitals", "MAIL FROM:<SomeOne@Remote.TEST>", "RCPT TO:<User@LAB.test>"),
		envelope("UTF-8 addresses", "MAIL FROM:<grüße@remote.test> SMTPUTF8 BODY=8BITMIME", "RCPT TO:<jürgen@lab.test>"),
		envelope("several recipients", from, to, "RCPT TO:<other@lab.test>", "RCPT TO:<third@lab.test>"),
		envelope("recipient twice", from, to, "RCPT TO:<other@lab.test>", to),
		envelope("one recipient refused", from, to, "RCPT TO:<someone@elsewhere.test>", "RCPT TO:<other@lab.test>"),
		envelope("fifty recipients", append([]string{from}, diffFiftyRecipients()...)...),
		{name: "two mails", scan: ok, mails: []diffMail{{}, {commands: []string{"MAIL FROM:<second@remote.test>", "RCPT TO:<other@lab.test>", "DATA"}}}},
		{name: "after RSET", scan: ok, mails: []diffMail{
			{commands: []string{"MAIL FROM:<first@remote.test>", "RCPT TO:<other@lab.test>", "RSET", diffUsual[0], diffUsual[1], "DATA"}},
		}},
		{name: "after another EHLO", scan: ok, mails: []diffMail{
			{commands: append([]string{"EHLO second.remote.test"}, diffUsual...)},
		}},
		{name: "HELO after EHLO", scan: ok, mails: []diffMail{{}, {commands: append([]string{"HELO second.remote.test"}, diffUsual...)}}},
		{name: "nothing after MAIL", scan: ok, mails: []diffMail{{commands: []string{diffUsual[0], "RSET"}}}},
		{name: "no recipient", scan: ok, mails: []diffMail{{commands: []string{diffUsual[0], "RCPT TO:<someone@elsewhere.test>", "RSET"}}}},
	}
	return cases
}

func diffFiftyRecipients() (commands []string) {
	for _, c := range "abcdefghijklmnopqrstuvwxyABCDEFGHIJKLMNOPQRSTUVWXY" {
		commands = append(commands, "RCPT TO:<"+string(c)+"."+strings.ToLower(string(c))+"@lab.test>")
	}
	return commands
}

// diffMessageCases are about the mail file and the mail that is delivered unchanged.
func diffMessageCases() []diffCase {
	message := func(name, raw string) diffCase {
		return diffCase{name: name, scan: ampdptest.Continue(), mails: []diffMail{{raw: []byte(raw)}}}
	}
	field := func(name string, lines ...string) diffCase {
		return message(name, "From: <someone@remote.test>\r\n"+strings.Join(lines, "\r\n")+"\r\nTo: <user@lab.test>\r\n\r\ntext\r\n")
	}
	return []diffCase{
		field("no space", "Subject:minutes"),
		field("two spaces", "Subject:  minutes"),
		field("tab", "Subject:\tminutes"),
		field("space before the colon", "Subject : minutes"),
		field("space at the end", "Subject: minutes  "),
		field("folded", "Subject: one", "\ttwo", "   three"),
		field("first line folded", "Message-ID:", " <1@remote.test>"),
		field("empty field", "X-Empty:"),
		field("blank field", "X-Blank: "),
		field("line of white space", "X-Folded: one", "  ", "\ttwo"),
		field("eight bits", "Subject: Grüße, žluťoučký kůň, 日本語", "X-Latin1: Gr\xfc\xdfe"),
		field("percent", "Subject: 100%s %n %20"),
		field("long field", "X-Long: "+strings.Repeat("word ", 6000)+"end"),
		field("many fields", diffManyFields()...),
		message("no header", "\r\nonly text\r\n"),
		message("no body", "Subject: only a header\r\n\r\n"),
		message("no empty line", "Subject: only a header\r\n"),
		message("what is no field", "Subject: minutes\r\nthis is no field\r\nX-After: yes\r\n\r\ntext\r\n"),
		message("mbox line", "Subject: minutes\r\n\r\nFrom here on\r\n"),
		message("empty lines", "Subject: minutes\r\n\r\n\r\n\r\n\r\n"),
		message("dots", "Subject: minutes\r\n\r\n.\r\n..\r\n.x\r\n"),
		message("bare CR", "Subject: minutes\r\n\r\none\rtwo\r\r\nthree\r\n\r\r\n"),
		message("bare LF", "Subject: minutes\r\n\r\none\ntwo\r\nthree\n\r\n"),
		message("NUL", "Subject: minutes\r\n\r\none\x00two\r\n"),
		message("long lines", "Subject: minutes\r\n\r\n"+strings.Repeat(strings.Repeat("x", 990)+"\r\n", 10)),
		message("CR LF across chunks", "Subject: minutes\r\n\r\n"+strings.Repeat("x\r\n", 70000)),
		message("one line more each", "Subject: minutes\r\n\r\n"+strings.Repeat("0123456789abc\r\n", 9000)),
	}
}

func diffManyFields() (lines []string) {
	for range 300 {
		lines = append(lines, "X-Many: field")
	}
	return lines
}

// diffVerdictCases are about return_value and setreply.
func diffVerdictCases() []diffCase {
	reply := func(name string, lines ...string) diffCase {
		return diffCase{name: name, scan: ampdptest.Reply(append([]string{"version_server=2", "log_id=01234-01"}, lines...)...)}
	}
	verdict := func(name, value, code, enhanced, text string) diffCase {
		return diffCase{name: name, scan: ampdptest.Verdict(value, code, enhanced, text)}
	}
	return []diffCase{
		verdict("accept", "accept", "250", "2.6.0", "Ok"),
		verdict("reject", "reject", "554", "5.7.0", "Reject, id=01234-01 - INFECTED: Eicar-Signature"),
		verdict("reject with percent", "reject", "554", "5.7.0", "Reject, 100% spam, 50%s, see %20"),
		verdict("reject with UTF-8", "reject", "554", "5.7.0", "Grüße, kein Spam"),
		verdict("reject without enhanced code", "reject", "554", "", "Reject"),
		verdict("reject without text", "reject", "554", "5.7.0", ""),
		verdict("reject of several lines", "reject", "554", "5.7.0", "one\ntwo"),
		verdict("reject with a long text", "reject", "554", "5.7.0", strings.Repeat("word ", 100)+"end"),
		verdict("reject with another class", "reject", "550", "4.7.1", "Reject"),
		verdict("reject with 250", "reject", "250", "2.6.0", "Ok"),
		verdict("reject with 450", "reject", "450", "4.7.1", "Later"),
		reply("reject without setreply", "return_value=reject"),
		verdict("tempfail", "tempfail", "450", "4.7.1", "Greylisted"),
		verdict("tempfail of amavisd's own error", "tempfail", "450", "4.5.0", "Failure: Can't open /var/lib/amavis/tmp/x: Permission denied"),
		verdict("tempfail in processing", "tempfail", "451", "4.5.0", "Error in processing, id=01234-01, virus_scan FAILED"),
		verdict("tempfail with 550", "tempfail", "550", "5.7.1", "Reject"),
		reply("tempfail without setreply", "return_value=tempfail"),
		verdict("discard", "discard", "250", "2.7.0", "Ok, discarded, id=01234-01"),
		reply("discard without setreply", "return_value=discard"),
		reply("continue without setreply", "return_value=continue"),
		verdict("continue with 550", "continue", "550", "5.7.1", "Reject"),
		reply("reject with edits", "addheader=X-Added yes", "return_value=reject"),
		reply("discard with edits", "addheader=X-Added yes", "return_value=discard"),
		reply("setreply after return_value", "return_value=reject", ampdptest.Line("setreply", "554", "5.7.0", "Reject")),
		reply("exit_code", "return_value=continue", "exit_code=99"),
		{name: "no log_id", scan: ampdptest.Reply("version_server=2", "return_value=continue")},
		{name: "no version_server", scan: ampdptest.Reply("return_value=continue")},
		{name: "bare LF in the reply", scan: ampdptest.Raw("version_server=2\naddheader=X-Added yes\nreturn_value=continue\n\n")},
		{name: "reply byte by byte", scan: ampdptest.Bytewise(ampdptest.Lines("version_server=2", "addheader=X-Added yes", "return_value=continue"))},
		{name: "capitals in escapes", scan: ampdptest.Continue("addheader=X-Added %C3%BC%2f")},
	}
}

// diffEditCases are about what amavisd has changed.
func diffEditCases() []diffCase {
	line := ampdptest.Line
	edits := func(name string, lines ...string) diffCase {
		return diffCase{name: name, scan: ampdptest.Continue(lines...)}
	}
	on := func(c diffCase, commands ...string) diffCase {
		c.mails = []diffMail{{commands: append(append([]string{diffUsual[0]}, commands...), "DATA")}}
		return c
	}
	withField := func(c diffCase, fields string) diffCase {
		c.mails = []diffMail{{raw: append([]byte(fields), diffOrdinary...)}}
		return c
	}
	other := "RCPT TO:<other@lab.test>"
	return []diffCase{
		edits("addheader", line("addheader", "X-Added", "yes")),
		edits("addheader twice", line("addheader", "X-Added", "one"), line("addheader", "X-Added", "two")),
		edits("addheader of a field that is there", line("addheader", "X-Folded", "three")),
		edits("addheader folded", line("addheader", "X-Added", "one\n\ttwo\n three")),
		edits("addheader with a space", line("addheader", "X-Added", " yes")),
		edits("addheader with UTF-8", line("addheader", "X-Added", "Grüße")),
		edits("addheader empty", line("addheader", "X-Added", "")),
		edits("addheader with a bare LF", line("addheader", "X-Added", "one\ntwo: three")),
		edits("addheader of 40 KB", line("addheader", "X-Added", strings.Repeat("word\n\t", 8000)+"end")),
		edits("addheader with a bad name", line("addheader", "X Added", "yes")),
		edits("insheader 0", line("insheader", "0", "X-Inserted", "yes")),
		edits("insheader 1", line("insheader", "1", "X-Inserted", "yes")),
		edits("insheader 3", line("insheader", "3", "X-Inserted", "yes")),
		edits("insheader 100", line("insheader", "100", "X-Inserted", "yes")),
		edits("insheader several", line("insheader", "1", "X-C", "3"), line("insheader", "1", "X-B", "2"), line("insheader", "1", "X-A", "1")),
		edits("insheader folded", line("insheader", "1", "X-Inserted", "one\n\ttwo")),
		edits("insheader with a space", line("insheader", "1", "X-Inserted", " yes")),
		edits("chgheader", line("chgheader", "1", "Subject", "***SPAM*** minutes")),
		edits("chgheader in lower case", line("chgheader", "1", "subject", "***SPAM*** minutes")),
		edits("chgheader with a space", line("chgheader", "1", "Subject", " ***SPAM*** minutes")),
		edits("chgheader folded", line("chgheader", "1", "X-Folded", "three\n\tfour")),
		edits("chgheader 1 of two", line("chgheader", "1", "X-Twice", "changed")),
		edits("chgheader 2 of two", line("chgheader", "2", "X-Twice", "changed")),
		edits("chgheader 3 of two", line("chgheader", "3", "X-Twice", "changed")),
		edits("chgheader of none", line("chgheader", "1", "X-None", "changed")),
		edits("chgheader empty", line("chgheader", "1", "Subject", "")),
		edits("chgheader of Received", line("chgheader", "2", "Received", "from changed")),
		edits("chgheader of our Received", line("chgheader", "1", "Received", "from changed")),
		edits("delheader", line("delheader", "1", "X-Folded")),
		edits("delheader in lower case", line("delheader", "1", "x-folded")),
		edits("delheader 1 of two", line("delheader", "1", "X-Twice")),
		edits("delheader 2 of two", line("delheader", "2", "X-Twice")),
		edits("delheader of none", line("delheader", "1", "X-None")),
		edits("delheader of Received", line("delheader", "2", "Received")),
		edits("delheader of our Received", line("delheader", "1", "Received")),
		edits("delheader and addheader", line("delheader", "1", "X-Folded"), line("addheader", "X-Folded", "new")),
		edits("delheader and insheader", line("delheader", "1", "X-Folded"), line("insheader", "1", "X-Folded", "new")),
		edits("delheader and chgheader", line("delheader", "1", "X-Folded"), line("chgheader", "1", "X-Folded", "new")),
		withField(edits("forged X-Virus-Scanned"), "X-Virus-Scanned: by me\r\n"),
		withField(edits("forged X-Amavis-Milter-Unscanned"), "X-Amavis-Milter-Unscanned: timeout\r\n"),
		withField(edits("forged fields and amavisd's", line("delheader", "1", "X-Spam-Flag"), line("insheader", "1", "X-Spam-Flag", "YES")), "X-Spam-Flag: NO\r\nX-Spam-Flag: NO\r\n"),
		edits("addrcpt", line("addrcpt", "<third@lab.test>")),
		edits("addrcpt without brackets", line("addrcpt", "third@lab.test")),
		edits("addrcpt with UTF-8", line("addrcpt", "<jürgen@lab.test>")),
		on(edits("delrcpt", line("delrcpt", "<"+user+">")), diffUsual[1], other),
		on(edits("delrcpt without brackets", line("delrcpt", user)), diffUsual[1], other),
		on(edits("delrcpt of nobody", line("delrcpt", "<nobody@lab.test>")), diffUsual[1], other),
		on(edits("delrcpt in other case", line("delrcpt", "<User@LAB.test>")), diffUsual[1], other),
		on(edits("delrcpt of one without brackets", line("delrcpt", "<"+user+">")), "RCPT TO:"+user, other),
		on(edits("delrcpt of all", line("delrcpt", "<"+user+">")), diffUsual[1]),
		on(edits("delrcpt and addrcpt", line("delrcpt", "<"+user+">"), line("addrcpt", "<user+spam@lab.test>")), diffUsual[1], other),
		edits("all at once", line("delheader", "1", "X-Twice"), line("chgheader", "1", "subject", "new"), line("insheader", "1", "X-A", "1"),
			line("addheader", "X-Z", "26"), line("addrcpt", "<third@lab.test>")),
	}
}

// diffFailureCases are about an amavisd that does not do what it should.
func diffFailureCases() []diffCase {
	reply := func(name string, lines ...string) diffCase {
		return diffCase{name: name, scan: ampdptest.Reply(lines...)}
	}
	edit := ampdptest.Line("addheader", "X-Added", "yes")
	half := ampdptest.RawThenHangUp("version_server=2\r\n" + edit + "\r\n" + ampdptest.Line("delrcpt", "<"+user+">") + "\r\n")
	cases := []diffCase{
		{name: "amavisd away", setup: diffAway},
		{name: "amavisd away, -P", setup: diffAwayPassing},
		{name: "unwritable spool", scan: ampdptest.Continue(), broken: diffUnwritableSpool},
		{name: "no reply, -T 1", setup: diffImpatient, scan: ampdptest.Hang()},
	}
	for _, c := range []diffCase{
		{name: "hangs up at once", scan: ampdptest.CloseAtOnce(), deaf: true},
		{name: "hangs up after the request", scan: ampdptest.HangUp()},
		{name: "hangs up in the reply", scan: half},
		{name: "hangs up before the empty line", scan: ampdptest.RawThenHangUp("version_server=2\r\n" + edit + "\r\nreturn_value=continue\r\n")},
		{name: "resets in the reply", scan: ampdptest.RawThenReset("version_server=2\r\n"), deaf: true},
		{name: "only an empty line", scan: ampdptest.Raw("\r\n")},
		reply("line without =", edit, "garbage", "return_value=continue"),
		reply("bad escape", "addheader=X-Added 100%zz", "return_value=continue"),
		reply("no return_value", "version_server=2", edit),
		reply("return_value twice", edit, "return_value=reject", "return_value=continue"),
		reply("return_value unknown", edit, "return_value=maybe"),
		reply("addheader without value", "addheader=X-Added", "return_value=continue"),
		reply("insheader without index", "insheader=X-Added yes", "return_value=continue"),
		reply("chgheader without value", "chgheader=1 Subject", "return_value=continue"),
		reply("chgheader with a negative index", "chgheader=-1 Subject new", "return_value=continue"),
		reply("delheader without name", "delheader=1", "return_value=continue"),
		reply("setreply of one word", "setreply=554", "return_value=reject"),
		reply("setreply with a bad code", "setreply=999 5.7.0 Reject", "return_value=reject"),
		reply("version_server 3", "version_server=3", edit, "return_value=continue"),
		reply("version_server of no number", "version_server=new", edit, "return_value=continue"),
		reply("unknown attribute", "version_server=2", edit, "colour=blue", "return_value=continue"),
		reply("replacebody", "version_server=2", edit, "replacebody=new", "return_value=continue"),
		reply("quarantine", "version_server=2", "quarantine=held", "return_value=continue"),
		reply("header of 70 KB", ampdptest.Line("addheader", "X-Added", strings.Repeat("word\n\t", 14000)+"end"), "return_value=continue"),
		reply("attribute of 70 KB", "log_id="+strings.Repeat("x", 70000), "return_value=continue"),
	} {
		with := c
		with.name, with.setup = c.name+", -P", diffPassing
		cases = append(cases, c, with)
	}
	return cases
}

// diffUnwritableSpool takes the right to write from where both programs keep mail.
func diffUnwritableSpool(t *testing.T) (mend func()) {
	t.Helper()
	chmod := func(mode os.FileMode) {
		for _, dir := range []string{diffWorkDir, diffWorkDir + "/milter"} {
			if err := os.Chmod(dir, mode); err != nil && !os.IsNotExist(err) {
				t.Error(err)
			}
		}
	}
	chmod(0o500)
	return func() { chmod(0o750) }
}
