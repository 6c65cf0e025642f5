package milter

import (
	"strconv"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// pathCases are arguments as an MTA accepts them, with the path that is read in
// them, and whether a recipient can be deleted by it: seen on sendmail 8.17 and
// Postfix 3.7 where they accept such a thing.
var pathCases = []struct {
	arg, path string
	deletable bool
}{
	{"<a@b>", "<a@b>", true},
	{"<>", "<>", true},
	{`<"a b"@c>`, `<"a b"@c>`, true},
	{`<"a(b<c>d,e:f"@g>`, `<"a(b<c>d,e:f"@g>`, true},
	{`<"a\"b"@c>`, `<"a\"b"@c>`, true},
	{`<a\ b@c>`, `<a\ b@c>`, true},
	{"<ä@ö>", "<ä@ö>", true},
	{"<\xff@b>", "<\xff@b>", true},
	{"<a@[192.0.2.1]>", "<a@[192.0.2.1]>", true},
	{"<a@[IPv6:2001:db8::1]>", "<a@[IPv6:2001:db8::1]>", true},
	{"<a@b.>", "<a@b.>", true},
	{"<A@B.Example>", "<A@B.Example>", true},
	{"<postmaster>", "<postmaster>", true},
	{"<a+b=c%d!e/f@g>", "<a+b=c%d!e/f@g>", true},

	{"a@b", "<a@b>", true},
	{"", "<>", true},
	{"ä@ö", "<ä@ö>", true},
	{`"a b"@c`, `<"a b"@c>`, true},
	{"a@b>", "<a@b>", true},
	{"<a@b>>", "<a@b>", true},
	{"<<a@b>>", "<a@b>", true},
	{"<x<a@b>y>", "<a@b>", true},
	{`"Joe Q"<a@b>`, "<a@b>", true},
	{`"<c@d>"<a@b>`, "<a@b>", true},
	{"Joe<a@b>", "<a@b>", true},
	{"Joe<>", "<>", true},
	{"<a@b>x", "<a@b>", true},
	{"<a@b>(c)", "<a@b>", true},
	{"(c)<a@b>", "<a@b>", true},
	{"(<c@d>)a@b", "<a@b>", true},
	{"<a(c)@b>", "<a@b>", true},
	{"a@b(c)", "<a@b>", true},
	{"<a@(c(d)\\)e)b>", "<a@b>", true},
	{"< a@b >", "<a@b>", true},
	{"<a @ b . c>", "<a@b.c>", true},
	{"<a b@c>", "<a b@c>", true},
	{"<a(x)b@c>", "<a b@c>", true}, // never one word
	{"<a (x)\tb@c>", "<a   b@c>", true},
	{"<a@b(x)c>", "<a@b c>", true},
	{`<"a"(x)b@c>`, `<"a" b@c>`, true},
	{"<(x)a(x)@(x)b(x).(x)c(x)>", "<a@b.c>", true},
	{"a(x)b@c", "<a b@c>", true},
	{`<a@"b.c">`, `<a@"b.c">`, true},
	{`<a@b\.c>`, `<a@b\.c>`, true},
	{"<b.c!a>", "<b.c!a>", true},
	{"<a%b.c>", "<a%b.c>", true},
	{"<a@b.c,>", "<a@b.c,>", false},
	{"<g:a@b.c;>", "<g:a@b.c;>", false},
	{"<@r:a@b>", "<a@b>", true},
	{"<@r,@s: a@b>", "<a@b>", true},
	{"@r:a@b", "<a@b>", true},
	{"<@[IPv6:::1]:a@b>", "<a@b>", true},

	// Nobody knows what these mean, so they stay what they are.
	{"<@r:>", "<@r:>", false},
	{"g:a@b;", "<g:a@b;>", false},
	{"<a@b;>", "<a@b;>", false},
	{"a@b,c@d", "<a@b,c@d>", false},
	{"<a@b>,<c@d>", "<a@b>,<c@d>", false},
	{"<a@b><c@d>", "<a@b><c@d>", false},
	{"a>b@c", "<a>b@c>", false},
	{"<a(b@c>", "<a(b@c>", false},
	{"a@b(c", "<a@b(c>", false},
	{"<a)b@c>", "<a)b@c>", false},
	{`<"a@b>`, `<"a@b>`, false},
	{"<a@[b>", "<a@[b>", false},
	{"<a", "<<a>", false},
	{"<", "<<>", false},
	{`a\`, `<a\>`, false},
}

func TestPaths(t *testing.T) {
	for _, c := range pathCases {
		p := NewPath(c.arg)
		if p.String() != c.path || p.forMTA() != c.path || p.isFound() != c.deletable {
			t.Errorf("%q: path %q, deletable %v, want %q, %v", c.arg, p, p.isFound(), c.path, c.deletable)
		}
		// What amavisd sends back is what it was sent.
		if again := PathOf(p.String()); again != p {
			t.Errorf("%q: path %q comes back as %q", c.arg, p, again)
		}
	}
	if !(Path{}).IsZero() || NullSender.IsZero() || NewPath("") != NullSender {
		t.Error("null sender and no path are not the same")
	}
	for in, want := range map[string]string{"<a@b>": "<a@b>", "a@b": "<a@b>", "": "<>", "<": "<<>", "Joe<a@b>": "<Joe<a@b>>"} {
		if got := PathOf(in).String(); got != want {
			t.Errorf("PathOf(%q) is %q, want %q", in, got, want)
		}
	}
}

// A recipient is deleted by its path, byte for byte, in one pair of brackets; where
// the MTA might not find it the message waits, for it would be delivered.
func TestDeleteRecipientByPath(t *testing.T) {
	for _, c := range pathCases {
		a, _, _ := answerTo(t, miltertest.Postfix37, Accept(DeleteRecipient{NewPath(c.arg)}))
		if c.deletable {
			mustAnswer(t, a, nil, "delrcpt "+strconv.Quote(c.path)+"\naccept")
		} else {
			mustAnswer(t, a, nil, "reply 451 4.3.0 Content filter failure, try again later")
		}
	}
}

// A path keeps the order of the bytes of its argument, but for a space in the place of
// a comment; a plain one keeps all, and whatever the MTA reads, amavisd is told either
// that, with the domain that was typed where it has none, or the path.
func FuzzPath(f *testing.F) {
	for _, c := range pathCases {
		f.Add(c.arg, "")
	}
	for _, c := range readCases {
		f.Add(c.arg, c.reading)
	}
	f.Fuzz(func(t *testing.T, arg, reading string) {
		p := NewPath(arg)
		text := p.String()
		if len(text) < 2 || text[0] != '<' || text[len(text)-1] != '>' {
			t.Fatalf("%q is in no brackets: %q", arg, text)
		}
		if p.isFound() && !strings.HasPrefix(text, "<@") && NewPath(text) != p {
			t.Errorf("%q is %q, and that %q", arg, text, NewPath(text))
		}
		rest := "<" + arg + ">"
		for _, c := range []byte(text) {
			i := strings.IndexByte(rest, c)
			if c == ' ' {
				i = strings.IndexAny(rest, " \t(")
			}
			if i < 0 {
				t.Fatalf("%q has more than %q", text, arg)
			}
			rest = rest[i+1:]
		}
		if !strings.ContainsAny(arg, "<>()[]\"\\ \t@") && text != "<"+arg+">" {
			t.Errorf("%q became %q", arg, text)
		}

		read := ReadPath(arg, reading)
		if read.forMTA() != text || read.isFound() != p.isFound() {
			t.Errorf("read as %q, %q is %q for the MTA, else %q", reading, arg, read.forMTA(), text)
		}
		told := read.String()
		if told == text {
			return
		}
		if isPlainMailbox(arg) || arg == text && isPlainMailbox(text[1:len(text)-1]) {
			t.Errorf("read as %q, %q became %q", reading, arg, told)
		}
		if told != "<"+reading+">" && !strings.HasPrefix(told, "<"+reading+"@") || strings.ContainsFunc(told, isControl) {
			t.Errorf("read as %q, %q became %q", reading, arg, told)
		}
		if outside := unquoted(told[1 : len(told)-1]); strings.ContainsAny(outside, "<>(), ") || strings.Count(outside, "@") != 1 {
			t.Errorf("read as %q, %q became %q", reading, arg, told)
		}
	})
}
