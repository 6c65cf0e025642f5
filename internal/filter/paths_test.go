package filter

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
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

// TestDeletionOfWhoIsMeant: amavisd names a recipient by what it was told of him, and
// the MTA must be told by what it finds him: all of whom amavisd was told the same.
func TestDeletionOfWhoIsMeant(t *testing.T) {
	bang, percent := milter.ReadPath("<b.c!u>", "u@b.c"), milter.ReadPath("<u%b.c>", "u@b.c")
	plain, other := milter.NewPath("<u@b.c>"), milter.NewPath("<v@b.c>")
	capital := milter.NewPath("<U@b.c>")
	for _, c := range []struct {
		name       string
		recipients []milter.Path
		named      []string
		want       []milter.Path
	}{
		{"himself", []milter.Path{plain, other}, []string{"<u@b.c>"}, []milter.Path{plain}},
		{"without brackets", []milter.Path{plain, other}, []string{"u@b.c"}, []milter.Path{plain}},
		{"typed otherwise", []milter.Path{other, bang}, []string{"<u@b.c>"}, []milter.Path{bang}},
		{"typed in several ways", []milter.Path{bang, other, plain, percent, bang}, []string{"<u@b.c>"}, []milter.Path{bang, plain, percent}},
		{"each in turn", []milter.Path{bang, other, plain}, []string{"<u@b.c>", "<v@b.c>", "<u@b.c>"}, []milter.Path{bang, plain, other, bang}},
		{"twice the same", []milter.Path{plain, plain}, []string{"<u@b.c>", "<u@b.c>"}, []milter.Path{plain, plain}},
		{"other letters are another", []milter.Path{capital, plain}, []string{"<U@b.c>"}, []milter.Path{capital}},
		{"what was typed is nobody's name", []milter.Path{bang}, []string{"<b.c!u>"}, []milter.Path{milter.NewPath("<b.c!u>")}},
		{"a stranger", []milter.Path{bang}, []string{"<x@y.z>"}, []milter.Path{milter.NewPath("<x@y.z>")}},
		{"nobody", nil, []string{"<u@b.c>"}, []milter.Path{plain}},
	} {
		var list edits
		for _, named := range c.named {
			list = append(list, ampdp.DeleteRecipient{Address: named})
		}
		var want changes
		for _, p := range c.want {
			want = append(want, milter.DeleteRecipient{Recipient: p})
		}
		t.Run(c.name, func(t *testing.T) {
			checkChanges(t, mustPass(acceptChanges(list, c.recipients, headerOf(t), HeaderField{})), want)
		})
	}
}

// TestManyTypedAlike: as many ways as there may be recipients make not that many
// changes for each of them.
func TestManyTypedAlike(t *testing.T) {
	var recipients []milter.Path
	var list edits
	for i := range milter.MaxRecipients {
		recipients = append(recipients, milter.ReadPath(fmt.Sprintf("<u%d%%b.c>", i), "u@b.c"))
		list = append(list, ampdp.DeleteRecipient{Address: "<u@b.c>"})
	}
	if n := len(mustPass(acceptChanges(list, recipients, headerOf(t), HeaderField{}))); n != 2*milter.MaxRecipients-1 {
		t.Errorf("%d changes, want %d: each one once, and one for each other edit", n, 2*milter.MaxRecipients-1)
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
