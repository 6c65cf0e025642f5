package milter

import (
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// readCases are arguments with what an MTA, or somebody who is none, says it read in
// them: what amavisd is told, and by what the MTA finds the recipient.
var readCases = []struct{ name, arg, reading, told, forMTA string }{
	// Whatever the MTA makes of a plain path: an alias, other letters, a domain.
	{"plain", "<a@b.c>", "a@b.c", "<a@b.c>", "<a@b.c>"},
	{"plain, an alias", "<a@b.c>", "x@y.z", "<a@b.c>", "<a@b.c>"},
	{"plain, a user of the host", "<a@b.c>", "a", "<a@b.c>", "<a@b.c>"},
	{"plain, in capitals", "<A@B.C>", "a@b.c", "<A@B.C>", "<A@B.C>"},
	{"plain, without brackets", "a@b.c", "x@y.z", "<a@b.c>", "<a@b.c>"},
	{"plain, quoted", `<"a b"@c>`, "x@y.z", `<"a b"@c>`, `<"a b"@c>`},
	{"plain, quoted more than needed", `<"a"@c>`, "a@c", `<"a"@c>`, `<"a"@c>`},
	{"plain, quoted quotes", `<"a\"\\b"@c>`, "x@y.z", `<"a\"\\b"@c>`, `<"a\"\\b"@c>`},
	{"plain, UTF-8", "<ü@ö.例>", "x@y.z", "<ü@ö.例>", "<ü@ö.例>"},
	{"plain, bytes", "<\xff@\xfe>", "x@y.z", "<\xff@\xfe>", "<\xff@\xfe>"},
	{"plain, all characters", "<a!#$&'*+-/=?^_`{|}~.9@b-_9.c>", "x@y.z", "<x@y.z>", "<a!#$&'*+-/=?^_`{|}~.9@b-_9.c>"},
	{"plain, but for a route", "<a#$&'*+-/=?^_`{|}~.9@b-_9.c>", "x@y.z", "<a#$&'*+-/=?^_`{|}~.9@b-_9.c>", "<a#$&'*+-/=?^_`{|}~.9@b-_9.c>"},
	{"plain, dots", "<.a..b.@c>", "x@y.z", "<.a..b.@c>", "<.a..b.@c>"},
	{"plain, literal", "<a@[192.0.2.1]>", "x@y.z", "<a@[192.0.2.1]>", "<a@[192.0.2.1]>"},
	{"plain, IPv6 literal", "<a@[IPv6:2001:db8::1]>", "x@y.z", "<a@[IPv6:2001:db8::1]>", "<a@[IPv6:2001:db8::1]>"},
	{"nobody", "<>", "x@y.z", "<>", "<>"},
	{"nothing", "", "x@y.z", "<>", "<>"},

	// What is not plain is read by the MTA.
	{"comment in the local part", "<u(c)v@b.c>", "u.v@b.c", "<u.v@b.c>", "<u v@b.c>"},
	{"comment in the domain", "<u@b(c)c>", "u@b.c", "<u@b.c>", "<u@b c>"},
	{"space in the domain", "<u@b c>", "u@b.c", "<u@b.c>", "<u@b c>"},
	{"quoted domain", `<u@"b.c">`, "u@b.c", "<u@b.c>", `<u@"b.c">`},
	{"quoted pair in the domain", `<u@b\.c>`, "u@b.c", "<u@b.c>", `<u@b\.c>`},
	{"quoted pair", `<\u@b.c>`, "u@b.c", "<u@b.c>", `<\u@b.c>`},
	{"words and quotes", `<u."v"@b.c>`, "u.v@b.c", "<u.v@b.c>", `<u."v"@b.c>`},
	{"dot at the end", "<u@b.c.>", "u@b.c", "<u@b.c>", "<u@b.c.>"},
	{"list", "<u@b.c,>", "u@b.c", "<u@b.c>", "<u@b.c,>"},
	{"group", "<g:u@b.c;>", "u@b.c", "<u@b.c>", "<g:u@b.c;>"},
	{"bang path", "<b.c!u>", "u@b.c", "<u@b.c>", "<b.c!u>"},
	{"percent", "<u%b.c>", "u@b.c", "<u@b.c>", "<u%b.c>"},
	{"percent at ours", "<u%b.c@mx>", "u@b.c", "<u@b.c>", "<u%b.c@mx>"},
	{"percent in quotes", `<"u%b.c"@mx>`, "u@b.c", "<u@b.c>", `<"u%b.c"@mx>`},
	{"@ in quotes", `<"u@b.c"@mx>`, "u@b.c", "<u@b.c>", `<"u@b.c"@mx>`},
	{"percent that stays", "<u%b.c@mx>", "u%b.c@mx", "<u%b.c@mx>", "<u%b.c@mx>"},
	{"source route", "<@r:u@b.c>", "u@b.c", "<u@b.c>", "<u@b.c>"},
	{"display name", `"x"<u@b.c>`, "u@b.c", "<u@b.c>", "<u@b.c>"},
	{"display name, other letters", `"x"<U@B.C>`, "u@b.c", "<u@b.c>", "<U@B.C>"},
	{"without a domain", "<u>", "u@b.c", "<u@b.c>", "<u>"},
	{"reading in quotes", `<u\ v@b.c>`, `"u v"@b.c`, `<"u v"@b.c>`, `<u\ v@b.c>`},
	{"UTF-8", "<ü(c)@ö>", "ü@ö", "<ü@ö>", "<ü@ö>"},
	{"group in the local part", "<g:u@b.c;>", "g:u@b.c", "<g:u@b.c>", "<g:u@b.c;>"},
	{"words and quotes in the reading", `<u(c)"v"@b.c>`, `u."v"\w@b.c`, `<u."v"\w@b.c>`, `<u "v"@b.c>`},

	// sendmail leaves the domain out for users of its own.
	{"user of the host", "<postmaster@mx(c)>", "postmaster", "<postmaster@mx>", "<postmaster@mx>"},
	{"display name, user of the host", `"x"<postmaster@mx>`, "root", "<postmaster@mx>", "<postmaster@mx>"},
	{"comment, user of the host", "<u(c)v@mx>", "u.v", "<u.v@mx>", "<u v@mx>"},
	{"bang path, user of the host", "<mx!u>", "u", "<mx!u>", "<mx!u>"},
	{"bare user of the host", "<u>", "u", "<u>", "<u>"},

	// What no MTA says.
	{"missing", "<u v@b.c>", "", "<u v@b.c>", "<u v@b.c>"},
	{"CR LF", "<u v@b.c>", "u@b.c\r\nrecipient=x@y.z", "<u v@b.c>", "<u v@b.c>"},
	{"LF in quotes", "<u v@b.c>", "\"u\nv\"@b.c", "<u v@b.c>", "<u v@b.c>"},
	{"NUL", "<u v@b.c>", "u\x00@b.c", "<u v@b.c>", "<u v@b.c>"},
	{"DEL", "<u v@b.c>", "u\x7f@b.c", "<u v@b.c>", "<u v@b.c>"},
	{"brackets", "<u v@b.c>", "<u@b.c>", "<u v@b.c>", "<u v@b.c>"},
	{"brackets within", "<u v@b.c>", "u><x@b.c", "<u v@b.c>", "<u v@b.c>"},
	{"several @", "<u v@b.c>", "u@b@c", "<u v@b.c>", "<u v@b.c>"},
	{"no local part", "<u v@b.c>", "@b.c", "<u v@b.c>", "<u v@b.c>"},
	{"no domain behind the @", "<u v@b.c>", "u@", "<u v@b.c>", "<u v@b.c>"},
	{"only @", "<u v@b.c>", "@", "<u v@b.c>", "<u v@b.c>"},
	{"blank", "<u v@b.c>", " ", "<u v@b.c>", "<u v@b.c>"},
	{"two", "<u v@b.c>", "u@b.c,x@y.z", "<u v@b.c>", "<u v@b.c>"},
	{"comment", "<u v@b.c>", "u(x)@b.c", "<u v@b.c>", "<u v@b.c>"},
	{"quotes without an end", "<u v@b.c>", `"u@b.c`, "<u v@b.c>", "<u v@b.c>"},
	{"quotes around the end", "<u v@b.c>", `"u@b.c"`, "<u v@b.c>", "<u v@b.c>"},
	{"backslash at the end", "<u v@b.c>", `u\@b.c`, "<u v@b.c>", "<u v@b.c>"},
	{"space", "<u v@b.c>", "u v@b.c", "<u v@b.c>", "<u v@b.c>"},
	{"tab", "<u v@b.c>", "u\tv@b.c", "<u v@b.c>", "<u v@b.c>"},
	{"empty labels", "<u v@b.c>", "u@b..c", "<u v@b.c>", "<u v@b.c>"},
	{"literal without an end", "<u v@b.c>", "u@[b.c", "<u v@b.c>", "<u v@b.c>"},
	{"literal with more", "<u v@b.c>", "u@[192.0.2.1]x]", "<u v@b.c>", "<u v@b.c>"},
	{"empty literal", "<u v@b.c>", "u@[]", "<u v@b.c>", "<u v@b.c>"},
}

func TestReadPath(t *testing.T) {
	for _, c := range readCases {
		p := ReadPath(c.arg, c.reading)
		if p.String() != c.told || p.forMTA() != c.forMTA {
			t.Errorf("%s: %q, read as %q: told %q, for the MTA %q; want %q, %q", c.name, c.arg, c.reading, p, p.forMTA(), c.told, c.forMTA)
		}
	}
}

// TestReadingOfMTA: an MTA's reading comes from the macros of just this MAIL and RCPT,
// and a recipient is deleted by what was typed.
func TestReadingOfMTA(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	m := b.mta(t, miltertest.Sendmail817)
	m.Greet()
	m.Macros('M', "i", "QREAD", "{mail_addr}", "s@b.c")
	m.Mail("<b.c!s>")
	long := strings.Repeat("x", MaxMacroBytes)
	for _, r := range []struct {
		arg    string
		macros []string // nil: no frame of macros at all
	}{
		{"<b.c!first>", []string{"{rcpt_addr}", "first@b.c"}},
		{"<b.c!second>", nil},
		{"<b.c!third>", []string{}},
		{"<b.c!fourth>", []string{"{rcpt_mailer}", "smtp"}},
		{"<b.c!fifth>", []string{"{rcpt_addr}", long[:MaxMacroBytes-4] + "@b.c"}},
		{"<b.c!sixth>", []string{"{rcpt_addr}", long[:MaxMacroBytes-3] + "@b.c"}},
		{"<b.c!seventh>", []string{"{rcpt_addr}", strings.Repeat(long, 16)}},
		{"<b.c!eighth>", []string{"{mail_addr}", "x@y.z"}},
		{"<b.c!ninth>", []string{"{rcpt_addr}", "ninth@b.c"}},
	} {
		if r.macros != nil {
			m.Macros('R', r.macros...)
		}
		m.Rcpt(r.arg)
	}
	m.Data()
	a, err := m.EOM()
	mustAnswer(t, a, err, "accept")
	env := b.handler.transaction(t, 0).env
	var got []string
	for _, r := range env.Recipients {
		got = append(got, r.String())
	}
	want := []string{"<first@b.c>", "<b.c!second>", "<b.c!third>", "<b.c!fourth>", "<" + long[4:] + "@b.c>", "<b.c!sixth>", "<b.c!seventh>", "<b.c!eighth>", "<ninth@b.c>"}
	if env.Sender.String() != "<s@b.c>" || !slices.Equal(got, want) {
		t.Errorf("from %q to %q, want <s@b.c>, %q", env.Sender, got, want)
	}

	a, _, _ = answerTo(t, miltertest.Postfix37, Accept(DeleteRecipient{ReadPath("<b.c!u>", "u@b.c")}, AddRecipient{ReadPath("<b.c!u>", "u@b.c")}))
	mustAnswer(t, a, nil, "delrcpt \"<b.c!u>\"\naddrcpt \"<u@b.c>\"\naccept")
	a, _, _ = answerTo(t, miltertest.Postfix37, Accept(DeleteRecipient{ReadPath("<g:u@b.c;>", "u@b.c")}))
	mustAnswer(t, a, nil, "reply 451 4.3.0 Content filter failure, try again later")
}

// TestReadingsHaveABound: what is read counts like what is typed.
func TestReadingsHaveABound(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	m := b.mta(t, miltertest.Sendmail817)
	m.Greet()
	m.Mail("<>")
	reading := strings.Repeat("x", MaxMacroBytes-4) + "@b.c"
	one := append(miltertest.Frame('D', []byte("R{rcpt_addr}\x00"+reading+"\x00")), miltertest.Frame('R', []byte("<b.c!u>\x00"))...)
	if err := m.SendRaw(slices.Repeat(one, MaxEnvelopeBytes/MaxMacroBytes)); err != nil {
		t.Fatal(err)
	}
	a, err := m.EOM()
	mustAnswer(t, a, err, "reply 452 4.5.3 Too many recipients")
}
