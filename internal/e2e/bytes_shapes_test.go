package e2e

import (
	"fmt"
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// milterChunkBytes is the most of a body that both MTAs send in one packet
// (MILTER_CHUNK_SIZE of sendmail's libmilter/mfapi.h and of Postfix's milter8.c).
const milterChunkBytes = 65535

// shape is a message whose bytes are easily changed on their way.
type shape struct {
	name string
	raw  []byte // with CR LF, as the client sends it
	to   string // recipient; user if empty

	// asBDAT has it sent by BDAT (RFC 3030), which needs no line end at the end, to
	// MTAs that know it.
	asBDAT bool
}

// withFields is a shape that is about header fields, each with its CR LF.
func withFields(name string, fields ...string) shape {
	header := lab.Header(sender, user, name) + strings.Join(fields, "")
	return shape{name: name, raw: []byte(header + "\r\n" + "A line.\r\n")}
}

// withBody is a shape that is about the body.
func withBody(name, body string) shape {
	header := lab.Header(sender, user, name) + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
	return shape{name: name, raw: []byte(header + "\r\n" + body)}
}

// headerShapes are all about one field or a few. The lab's sendmail takes more header
// than the 32 KB that are its default (MaxHeadersLength).
func headerShapes() []shape {
	return []shape{
		withFields("no space", "X-Shape:value\r\n"),
		withFields("two spaces", "X-Shape:  value\r\n"),
		withFields("tab", "X-Shape:\tvalue\r\n"),
		withFields("space and tab", "X-Shape: \tvalue\r\n"),
		withFields("value on the next line", "X-Shape:\r\n value\r\n", "X-Tab:\r\n\tvalue\r\n"),
		withFields("value on the line after a space", "X-Shape: \r\n value\r\n"),
		withFields("empty value", "X-Shape:\r\n"),
		withFields("blank value", "X-Shape: \r\n", "X-Blanks:  \t \r\n"),
		withFields("trailing spaces", "X-Shape: value  \t \r\n"),
		withFields("trailing spaces before a fold", "X-Shape: one  \r\n two \t\r\n\tthree\r\n"),
		withFields("folds of several kinds", "X-Shape: one\r\n two\r\n\tthree\r\n  \tfour\r\n"),
		withFields("a fold alone", "X-Shape:\r\n \r\n", "X-Next: one\r\n \r\n"),
		withFields("a fold alone amid the value", "X-Shape: one\r\n\t\r\n two\r\n"),
		withFields("spaces within", "X-Shape: a  b\t\tc   d\r\n"),
		withFields("space before the colon", "X-Shape : value\r\n"),
		withFields("names in odd case", "x-shape: 1\r\n", "X-SHAPE: 2\r\n", "x-ShApE: 3\r\n", "X--: 4\r\n", "X_Shape.!#$%&'*+/=?^`{|}~: 5\r\n"),
		withFields("same name again", "X-Shape: 1\r\n", "X-Other: 2\r\n", "X-Shape:  1\r\n", "X-Shape:1\r\n"),
		withFields("colons", "X-Shape: : a:b ::\r\n", "X-Colon::\r\n"),
		withFields("8 bit in a value", "X-Shape: Gr\u00fc\u00dfe \u65e5\u672c\u8a9e\r\n", "X-Latin: Gr\xfc\xdfe \x80\xfe\xff\r\n"),
		withFields("address fields", "From:  Some   One\t<someone@remote.test>  (x)\r\n", "Reply-To:x@remote.test\r\n"),
		withFields("address fields, spaced oddly", "Cc: a@remote.test,b@remote.test,  c@remote.test\r\n", "Sender:\ta@remote.test\r\n",
			"Reply-To: a@remote.test,\r\n\tb@remote.test \r\n"),
		withFields("fields that MTAs own", "Bcc: x@remote.test\r\n", "Return-Path: <x@remote.test>\r\n", "Content-Length: 9\r\n"),
		withFields("earlier hops", "Received: from a by b;\r\n\tMon, 23 Nov 2026 19:32:07 +0000\r\n", "Received:from c by d\r\n"),
		withFields("control bytes in a value", "X-Shape: bell\a escape\x1b backspace\b delete\x7f form feed\f vertical tab\v\r\n"),
		withFields("per cent", "X-Shape: 100%s %n %20 %%\r\n"),
		withFields("field line of 998 bytes", "X-Shape: "+strings.Repeat("v", 998-len("X-Shape: "))+"\r\n"),
		withFields("field line of 32 KB", "X-Shape: "+strings.Repeat("0123456789abcdef", 2048)+"\r\n"),
		withFields("32 KB folded", "X-Shape:"+strings.Repeat(" 0123456789abcdef\r\n", 2048)),
		withFields("1,000 fields", manyFields(1000)),
		withFields("bare CR in a value", "X-Shape: one\rtwo\r\n"),
		withFields("bare LF in a value", "X-Shape: one\n two\nX-Next: three\r\n"),
		withFields("NUL in a value", "X-Shape: one\x00two\r\n"),
		withFields("a line that is no field", "X-Shape: one\r\nno field\r\nX-Next: two\r\n"),
		{name: "header without its end", raw: []byte(lab.Header(sender, user, "header without its end"))},
	}
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-Field-%d:%*d\r\n", i, i%4, i)
	}
	return b.String()
}

// bodyShapes are all about the body.
func bodyShapes() []shape {
	shapes := []shape{
		withBody("empty body", ""),
		withBody("body of one empty line", "\r\n"),
		withBody("empty lines at the start", "\r\n\r\n\r\nA line.\r\n"),
		withBody("empty lines at the end", "A line.\r\n\r\n\r\n\r\n"),
		withBody("spaces at the ends of lines", "one \r\n two\t\r\n   \r\n\t\r\nend  \r\n"),
		withBody("dots alone", ".\r\n..\r\n...\r\n.\r\n"),
		withBody("dots before text", ".a\r\n. \r\n..b\r\n"),
		withBody("bare CR", "a\rb\r\n\rc\r\n"),
		withBody("CR before a line end", "a\r\r\nb\r\n"),
		withBody("bare LF", "a\nb\n\nc\r\n"),
		withBody("NUL", "a\x00b\r\n\x00\r\n"),
		withBody("every other byte", everyByte()),
		withBody("body line of 2,000 bytes", strings.Repeat("l", 2000)+"\r\n"),
		withBody("body line of 32 KB", strings.Repeat("0123456789abcdef", 2048)+"\r\n"),
		withBody("looks like a header", "Received: not me\r\nX-Shape: no\r\n\r\nFrom here on\r\nFrom: x\r\n>From y\r\n"),
		withBody("lines of CR LF only", strings.Repeat("\r\n", milterChunkBytes)+"end\r\n"),
		// Seven packets, each of which ends at another byte of these seven.
		withBody("bare CR at the end of a packet", strings.Repeat("ab\rcd\r\n", milterChunkBytes)),
		{name: "no line end at the end", raw: withBody("no line end at the end", "A line.\r\nThe end").raw, asBDAT: true},
		{name: "CR at the end", raw: withBody("CR at the end", "A line.\r\nThe end\r").raw, asBDAT: true},
	}
	// Of these, one has its CR and LF in different packets wherever the MTA cuts.
	const packets = 5 * milterChunkBytes / 4
	for phase := range 4 {
		body := strings.Repeat("x", phase) + strings.Repeat("ab\r\n", packets/4)
		shapes = append(shapes, withBody(fmt.Sprintf("CR LF cut in two, %d", phase), body))
	}
	return shapes
}

// everyByte has every byte that stands for itself, 32 in a line.
func everyByte() string {
	var b strings.Builder
	for c := 1; c < 256; c++ {
		if c != '\r' && c != '\n' {
			b.WriteByte(byte(c))
		}
		if c%32 == 0 {
			b.WriteString("\r\n")
		}
	}
	return b.String() + "\r\n"
}
