package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// differences is the table of what differs between the MTAs in the mails that all of
// them get (byteDifferences has the bytes that they change). All else is the same for
// both, byte by byte.
var differences = map[*lab.MTA]struct {
	// accepted is the reply to a mail that was taken; the group is the queue id.
	accepted string

	// received is the field that the MTA itself adds; HELO stands for the name that
	// the client gave, WITH for the protocol.
	received string

	// unavailable is the reply to MAIL while no milter serves.
	unavailable string

	// relaying is the reply to a recipient that is none of ours.
	relaying string

	// extensions are those of SMTP that one of them lacks.
	extensions map[string]bool

	// mails is what it makes of some of the mails, by the names of their cases.
	mails map[string]treatment
}{
	lab.Sendmail: {
		accepted:    `^250 2\.0\.0 (\w+) Message accepted for delivery$`,
		received:    `^Received: from HELO \(client\.remote\.test \[192\.0\.2\.10\]\)\r\n\tby mx\.lab\.test [^\r]* with WITH id \w+`,
		unavailable: `^451 4\.3\.2 `,
		relaying:    `^550 5\.7\.1 .*Relaying denied`,
		// Debian builds sendmail 8.17 with neither.
		extensions: map[string]bool{"CHUNKING": false, "SMTPUTF8": false},
		mails: map[string]treatment{
			"source route": routed,
			// Return-Path is for the last MTA to add, Bcc for nobody to see; sendmail
			// drops them when it delivers, after the milter.
			"Return-Path": {sends: without("Return-Path")},
			"Bcc":         {sends: without("Bcc", "Content-Length")},
			// It takes such a line for the envelope of a mailbox and drops it.
			"mailbox line": {takes: mailboxLine()},
			// The mailer that relays has lines of 2,040 bytes at most (L= in
			// sendmail.cf): what is longer is broken in two.
			"one line of 10,000": {breaks: "!\r\n "},
			// It refuses them at the end, but tells the milter only when the next mail
			// begins or the session ends.
			"NUL bytes": {refuses: `^554 5\.6\.1 NUL byte not allowed$`},
			// It gives a milter its own lines, which end in LF, and puts a CR before each
			// LF that has none: a CR too many at a line's end is none for the milter.
			"bare CR": {takes: replacing("\r\r\n", "\r\n"), sends: replacing("three\r\n", "three\r\r\n")},
			"bare LF": {takes: bareLF},
			// It adds what each mail must have.
			"no header":               {puts: missing},
			"body without empty line": {puts: missing},
			// It mends the structure of MIME when it delivers.
			"unclosed boundary": {sends: ending("--open--\r\n")},
			"no boundary":       {sends: ending("-------\r\n")},
		},
	},
	lab.Postfix: {
		accepted:    `^250 2\.0\.0 Ok: (?:\d+ bytes )?queued as (\w+)$`,
		received:    `^Received: from HELO \(client\.remote\.test \[192\.0\.2\.10\]\)\r\n\tby mx\.lab\.test \(Postfix\) with WITH id \w+`,
		unavailable: `^451 4\.7\.1 Service unavailable - try again later$`,
		relaying:    `^554 5\.7\.1 .*Relay access denied`,
		extensions:  map[string]bool{"CHUNKING": true, "SMTPUTF8": true},
		mails: map[string]treatment{
			"source route": routed,
			// It drops them before the milter (message_drop_headers in main.cf).
			"Return-Path": {takes: without("Return-Path")},
			"Bcc":         {takes: without("Bcc", "Content-Length")},
			// It makes a field of what is no field.
			"mailbox line": {takes: mailboxLine(lab.Field{Name: "X-Mailbox-Line", Value: " From someone@remote.test Mon Jan  1 00:00:00 2024"})},
			// A CR within a line becomes a space, one before a line end goes.
			"bare CR": {takes: replacing("\r\r\n", "\r\n", "\r\n", "\r\n", "\r", " ")},
			"bare LF": {takes: bareLF},
		},
	},
}

var (
	// missing are the fields that sendmail adds.
	missing = []string{`^Date: .* GMT$`, `^From: someone@remote\.test$`, `^Message-Id: <\w+\.\w+@mx\.lab\.test>$`}
	// What both of them do, though one might expect it of neither.
	// A source route is to be ignored, RFC 5321 appendix C.
	routed = treatment{
		tells:     map[string]string{"@relay.test,@other.test:user@lab.test": "user@lab.test"},
		addresses: map[string]string{"@relay.test,@other.test:user@lab.test": "user@lab.test"},
	}
	// A bare LF ends a line.
	bareLF = replacing("\r\n", "\r\n", "\n", "\r\n")
)

// mailboxLine is what becomes of a header that begins with the "From " line of a
// mailbox.
func mailboxLine(instead ...lab.Field) func(split) split {
	return func(m split) split {
		m.header = append(instead, m.header[1:]...)
		return m
	}
}

// accepted stands in a want for differences.accepted.
const accepted = "accepted"

// replyOf is the expression for a reply that a case wants.
func replyOf(mta *lab.MTA, reply string) string {
	if reply == accepted {
		return differences[mta].accepted
	}
	return reply
}

// receivedByMTA is the expression for the field that the MTA adds.
func receivedByMTA(mta *lab.MTA, helo, with string) string {
	return strings.NewReplacer("HELO", regexp.QuoteMeta(helo), "WITH", with).Replace(differences[mta].received)
}

// queueID finds the queue id in the MTA's reply; empty if it did not take the mail.
func queueID(mta *lab.MTA, reply lab.Reply) string {
	if m := regexp.MustCompile(differences[mta].accepted).FindStringSubmatch(reply.String()); m != nil {
		return m[1]
	}
	return ""
}

// onEach runs a test with every MTA, amavisd being in a profile.
func onEach(t *testing.T, profile lab.Profile, test func(t *testing.T, p *lab.Pipeline)) {
	t.Helper()
	needLab(t)
	for _, mta := range startingWith(shared.mta) {
		t.Run(mta.Name, func(t *testing.T) { test(t, withPipeline(t, mta, profile)) })
	}
}

// startingWith returns the MTAs, beginning with the one that the milter serves
// already.
func startingWith(mta *lab.MTA) []*lab.MTA {
	mtas := lab.MTAs()
	if i := slices.Index(mtas, mta); i > 0 {
		mtas[0], mtas[i] = mtas[i], mtas[0]
	}
	return mtas
}
