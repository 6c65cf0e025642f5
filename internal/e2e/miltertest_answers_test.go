package e2e

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// toldBytes is the longest attribute that is told back: miltertest reads a change into
// 1 KiB.
const toldBytes = 900

// scriptedAmavisd answers by the local part of the sender; whom it does not know it
// tells what it was told itself.
func scriptedAmavisd() ampdptest.Handler {
	answers := scriptedAnswers()
	return func(c *ampdptest.Conn) {
		request, err := c.ReadRequest()
		if err != nil {
			return
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(request.Get("sender"), "<"), "@")
		answer := answers[name]
		if answer == nil {
			answer = tell
		}
		c.Unread(request)
		answer(c)
	}
}

// tell has the milter add a header field for each attribute of the request, and for
// the mail file that it names.
func tell(c *ampdptest.Conn) {
	request, err := c.ReadRequest()
	if err != nil {
		return
	}
	values := map[string][]string{}
	var names []string
	for _, a := range request.Attributes {
		if values[a.Name] == nil {
			names = append(names, a.Name)
		}
		values[a.Name] = append(values[a.Name], a.Value)
	}
	var edits []string
	add := func(name, value string) {
		if len(value) <= toldBytes {
			edits = append(edits, ampdptest.Line("addheader", "X-Told-"+name, value))
		}
	}
	for _, name := range names {
		add(name, strings.Join(values[name], ","))
	}
	for _, complaint := range append(request.Complaints, request.Invalid...) {
		add("complaint", complaint)
	}
	mail, err := os.ReadFile(request.Get("mail_file"))
	if err != nil {
		add("error", err.Error())
	}
	received, rest := receivedFirst(mail)
	_, body, _ := bytes.Cut(rest, []byte("\n\n"))
	add("received", string(received))
	add("size", strconv.Itoa(len(rest)))
	add("crc", fmt.Sprintf("%08x", crc32.ChecksumIEEE(body)))
	add("mail", strings.NewReplacer("\n", "|", "\r", "^").Replace(string(rest)))
	c.Unread(request)
	ampdptest.Continue(edits...)(c)
}

// receivedFirst takes the synthesised Received field off: its first line, and what
// follows the field.
func receivedFirst(mail []byte) (first, rest []byte) {
	first, rest, _ = bytes.Cut(mail, []byte("\n"))
	for bytes.HasPrefix(rest, []byte("\t")) {
		_, rest, _ = bytes.Cut(rest, []byte("\n"))
	}
	return first, rest
}

// scriptedAnswers are what amavisd does for a sender of that local part.
func scriptedAnswers() map[string]ampdptest.Handler {
	// broken is a reply with edits that must not be made, and something wrong in it.
	broken := func(lines ...string) string {
		return strings.Join(append([]string{"version_server=2", "log_id=1", "addrcpt=<d@example.org>", "addheader=X-Edit yes"}, lines...), "\r\n")
	}
	whole := func(lines ...string) ampdptest.Handler { return ampdptest.Raw(broken(append(lines, "", "")...)) }
	return map[string]ampdptest.Handler{
		"continue": ampdptest.Continue(),
		"accept":   ampdptest.Reply("version_server=2", "log_id=1", "return_value=accept", "exit_code=0"),
		"discard":  ampdptest.Verdict("discard", "250", "2.7.0", "Ok, discarded"),
		"count":    countRecipients,

		"reject":              ampdptest.Verdict("reject", "554", "5.7.0", "Reject, 100% spam, id=1"),
		"reject-silent":       ampdptest.Reply("version_server=2", "return_value=reject"),
		"reject-contradicted": ampdptest.Verdict("reject", "250", "2.6.0", "Ok"),
		"reject-edits":        whole(ampdptest.Line("setreply", "554", "5.7.0", "Reject"), "return_value=reject"),
		"tempfail":            ampdptest.Verdict("tempfail", "450", "4.7.1", "Try later"),
		"tempfail-silent":     ampdptest.Reply("version_server=2", "return_value=tempfail"),
		"tempfail-internal":   ampdptest.Verdict("tempfail", "450", "4.5.0", "Failure: cannot open /var/lib/amavis/tmp"),

		"edits": ampdptest.Continue("delrcpt=<c@example.org>", "addrcpt=<c+spam@example.org>", "delheader=1 x-spam-flag",
			ampdptest.Line("chgheader", "1", "subject", "***SPAM*** hello"), "insheader=1 X-Spam-Level *****",
			"addheader=X-Spam-Score 7.5", ampdptest.Line("addheader", "X-Spam-Report", "one\n\ttwo\n three")),
		"edits-hostile": ampdptest.Continue(ampdptest.Line("addheader", "X-Line", "one\nX-Injected: yes"), ampdptest.Line("addheader", "X-Bare", "a\rb")),
		"edits-long":    ampdptest.Continue("addrcpt=<d@example.org>", "addheader=X-Short x", "addheader=X-Long "+strings.Repeat("v", 60_000)),
		"own-mark":      ampdptest.Continue(ampdptest.Line("addheader", "X-Virus-Scanned", "amavisd at example.org")),
		"quarantine":    ampdptest.Continue(ampdptest.Line("quarantine", "held for review")),

		"hang-up":      ampdptest.HangUp(),
		"hang":         ampdptest.Hang(),
		"hang-on":      ampdptest.Hang(),
		"trickle":      trickle,
		"truncated":    ampdptest.RawThenHangUp(broken("return_value=continue", "")),
		"half-line":    ampdptest.RawThenHangUp(broken("return_va")),
		"garbage":      ampdptest.RawThenHangUp("\x00\xff\x16\x03\x01 garbage\r\n\r\n"),
		"no-verdict":   whole("exit_code=0"),
		"two-verdicts": whole("return_value=continue", "return_value=accept"),
		"odd-verdict":  whole("return_value=perhaps"),
		"no-equals":    whole("this is no attribute", "return_value=continue"),
		"bad-escape":   whole("addheader=X-Edit %zz", "return_value=continue"),
		"bad-index":    whole("chgheader=one Subject x", "return_value=continue"),
		"second-time":  ampdptest.Script(ampdptest.HangUp(), ampdptest.Continue()),
		"bytewise":     ampdptest.Bytewise(ampdptest.Lines("version_server=2", "log_id=1", "return_value=continue")),
	}
}

// trickle goes on answering and never comes to an end.
func trickle(c *ampdptest.Conn) {
	if _, err := c.ReadRequest(); err != nil {
		return
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for c.Send("log_id=1\r\n") == nil {
		<-tick.C
	}
}

// countRecipients tells their number only: all of them are too many for miltertest.
func countRecipients(c *ampdptest.Conn) {
	request, err := c.ReadRequest()
	if err != nil {
		return
	}
	c.Unread(request)
	ampdptest.Continue(fmt.Sprintf("addheader=X-Told-recipients %d", len(request.Values("recipient"))))(c)
}
