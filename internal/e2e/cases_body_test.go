package e2e

import (
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// bodyChunk is the most of a body that an MTA gives the milter at once, in bytes.
const bodyChunk = 65535

// acrossChunks is a body in which that border falls between a CR and its LF.
func acrossChunks() string {
	line := strings.Repeat("x", 61) + "\r\n" // 63 bytes
	body := strings.Repeat(line, bodyChunk/len(line)-1)
	return body + strings.Repeat("y", bodyChunk-1-len(body)) + "\r\nbeyond\r\n"
}

// bytesFrom is text with each byte in it that may stand in the middle of a line.
func bytesFrom(from byte) string {
	var text strings.Builder
	for b := int(from); b < 256; b++ {
		if b != '\r' && b != '\n' {
			text.WriteByte(byte(b))
		}
		if b%16 == 15 {
			text.WriteString("|\r\n")
		}
	}
	return text.String()
}

// bodyCases are mails that nobody minds, with all sorts of bodies.
func bodyCases() []testCase {
	c := func(name, body string) testCase {
		raw := lab.Text(head(name), "")
		return mail(name, append(raw, body...), clean(want{}, user))
	}
	line := func(n int) string { return strings.Repeat("abcdefg ", n/8) + strings.Repeat("h", n%8) + "\r\n" }
	return []testCase{
		c("eight bits", "Schöne Grüße, žluťoučký kůň, 日本語\r\nlatin 1: \xfc\xdf\r\n"),
		c("empty body", ""),
		c("no final line end", "The last line does not end."),
		c("empty lines only", strings.Repeat("\r\n", 100)),
		c("body that looks like a header", "Subject: no header\r\nX-Spam-Flag: YES\r\n\r\nX-Virus-Scanned: no\r\n"),
		c("dots", ".\r\n..\r\n...\r\n. \r\n.end\r\n\r\n."),
		c("SMTP in the body", "DATA\r\nQUIT\r\n.RSET\r\nMAIL FROM:<>\r\nFrom here on\r\n>From there\r\n"),
		c("lines of 998, 999 and 2,000", line(998)+line(999)+line(1000)+line(2000)+"short\r\n"),
		c("one line of 10,000", line(10000)+"short\r\n"),
		mail("line end across chunks", append([]byte(headAnd("chunks", "Content-Type: application/octet-stream")+"\r\n"), acrossChunks()...), clean(want{}, user)),
		c("control characters", bytesFrom(1)),
		c("NUL bytes", "before\x00after\r\n\x00\r\n"),
		c("bare CR", "one\rtwo\r\nthree\r\r\nfour\r\n"),
		c("bare LF", "one\ntwo\r\nthree\n\r\nfour\r\n"),
		c("spaces at line ends", "one \r\ntwo\t\r\n   \r\n\t\r\n"),
	}
}
