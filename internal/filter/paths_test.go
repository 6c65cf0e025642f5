package filter

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter"
)

// Sender and recipients reach amavisd byte by byte, escaped, and its edits name the
// same bytes to the MTA again: UTF-8 (RFC 6531), bytes that are no UTF-8, what
// AM.PDP must escape, and arguments without brackets.
func TestPathsComeBack(t *testing.T) {
	args := []string{
		"<plain@example.net>", "bare@example.net", "<jürgen@exämple.net>", "<用户@例子.广告>",
		"<\u0065\u0301@example.net>", "<\u00e9@example.net>", // the same letter in two ways: no normalisation
		"<\xfc@example.net>", "<\xff\xfe@example.net>", "<a\u2028b@example.net>",
		`<"a b"@example.net>`, `<"a\"%20<b>"@example.net>`, "<100%@example.net>", "<a=b@example.net>",
	}
	var raw []byte
	b := newBench(t, func(c *ampdptest.Conn) {
		r, err := c.ReadRequest()
		if err != nil {
			return
		}
		raw = r.Raw
		var lines []string
		for _, path := range r.Values("recipient") {
			lines = append(lines, ampdptest.Line("delrcpt", path), ampdptest.Line("addrcpt", path))
		}
		c.Send(ampdptest.Lines(append(lines, "return_value=continue")...))
	}, func(o *Options) { o.XHeader = HeaderField{} })
	env := testEnvelope()
	env.Sender, env.Recipients = milter.NewPath("<jürgen\xff@exämple.net>"), nil
	var want []milter.Change
	for _, arg := range args {
		p := milter.NewPath(arg)
		if text := p.String(); text != arg && text != "<"+arg+">" {
			t.Errorf("%q became %q", arg, text)
		}
		env.Recipients = append(env.Recipients, p)
		want = append(want, milter.DeleteRecipient{Recipient: p}, milter.AddRecipient{Recipient: p})
	}
	tx := b.Begin(env)
	tx.EndHeader()
	v := tx.Verdict(t.Context())
	tx.End(milter.Outcome{Sent: v})
	checkVerdict(t, v, milter.DispositionAccept, "", want...)

	lines := []string{"sender=" + escaped("<jürgen\xff@exämple.net>")}
	for _, p := range env.Recipients {
		lines = append(lines, "recipient="+escaped(p.String()))
	}
	if wire := strings.Join(lines, "\r\n") + "\r\n"; !bytes.Contains(raw, []byte(wire)) {
		t.Errorf("amavisd read\n%q\nwant in it\n%q", raw, wire)
	}
}

// escaped writes a value as README.protocol asks for, by code of the test's own.
func escaped(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c > ' ' && c < 0x7f && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}
