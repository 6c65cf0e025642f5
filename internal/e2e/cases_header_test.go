package e2e

import (
	"fmt"
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// headerCases are mails that nobody minds, with all sorts of headers.
func headerCases() []testCase {
	c := func(name, header string) testCase {
		return mail(name, lab.Text(header, lab.CleanBody), clean(want{}, user))
	}
	bad := func(name, header, alert string) testCase {
		return mail(name, lab.Text(header, lab.CleanBody), badHeader(alert, user))
	}
	// A mail that lacks all that is required SpamAssassin takes for spam.
	hardly := want{reply: accepted, recipients: []string{user, lover}, top: []string{`^X-Amavis-Alert: BAD HEADER SECTION, Missing required header field: "Date"$`}}
	var fields strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&fields, "X-Field-%d: %d\r\n", i, i)
	}
	return []testCase{
		c("odd header fields", headAnd("odd",
			"X-No-Space:value", "X-Two-Spaces:  value", "X-Tab:\tvalue", "X-Empty:", "X-Blank: ",
			"X-Folded: one", "\ttwo", "   three", "X-Trailing: value  ", "X-Colon: a:b: c", "x-lower-case: value",
			"X-Percent: 100%s %n %20", "X-Folded-First:", " value", "X.Dot_Under!score: value")),
		c("names of fields in odd case", strings.NewReplacer("Date:", "DATE:", "From:", "from:", "Subject:", "sUBJECT:",
			"Message-ID:", "message-id:", "MIME-Version:", "Mime-version:").Replace(head("odd case"))),
		c("UTF-8 in the header", headAnd("Grüße, žluťoučký kůň, 日本語")),
		bad("Latin 1 in the header", headAnd("Gr\xfc\xdfe"), `Non-encoded non-ASCII data`),
		c("1,000 fields", head("many")+fields.String()),
		c("long folded field", headAnd("long", "X-Long: first"+strings.Repeat("\r\n\tand one more line of some sixty characters, as it is usual", 300))),
		bad("long line in the header", headAnd("long", "X-Long: "+strings.Repeat("word ", 380)+"end"), `Header line longer than 998 characters`),
		bad("fields that should be single, twice", headAnd("twice", "From: Another <another@remote.test>", "Subject: once more",
			"To: <other@lab.test>", "Date: Thu, 01 Jan 1970 00:00:00 +0000", "Message-ID: <second@remote.test>"), `Duplicate header field`),
		c("Received fields", "Received: from a.remote.test (a.remote.test [198.51.100.1])\r\n\tby b.remote.test (Postfix) with ESMTP id 4F5\r\n\tfor <user@lab.test>; Mon, 1 Jan 2024 00:00:00 +0000 (UTC)\r\n"+
			"Received: by a.remote.test; Mon, 1 Jan 2024 00:00:00 +0000\r\n"+head("relayed")),
		c("Return-Path", "Return-Path: <other@remote.test>\r\n"+head("returned")),
		c("Bcc", headAnd("blind", "Bcc: <secret@lab.test>", "Content-Length: 17")),
		c("DKIM-Signature", "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=remote.test; s=x;\r\n\th=From:To : Subject;\r\n\tbh=AAAA;\r\n b= BBBB\r\n  CCCC\r\n"+head("signed")),
		c("mailing list", headAnd("[list] news", "List-Id: <list.remote.test>", "List-Unsubscribe: <mailto:list-off@remote.test>,", "\t<https://remote.test/off>", "Precedence: bulk", "Sender: list-owner@remote.test", "Errors-To: x@remote.test")),
		c("resent", headAnd("again", "Resent-From: <user@remote.test>", "Resent-To: <user@lab.test>", "Resent-Date: Mon, 01 Jan 2024 00:00:00 +0000", "Resent-Message-ID: <r@remote.test>")),
		c("mailbox line", "From someone@remote.test Mon Jan  1 00:00:00 2024\r\n"+head("from a mailbox")),
		mail("no header", []byte("\r\nThe header is missing.\r\n"),
			adding(spamLike(hardly, byRules), `^Subject: \*\*\*SPAM\*\*\* ?$`)).to(user, lover),
		mail("body without empty line", []byte("X-Field: of the header\r\nThis is text.\r\nX-Field: of the body\r\n"),
			adding(spamLike(hardly, byRules), `^Subject: \*\*\*SPAM\*\*\* ?$`)).to(user, lover),
		mail("header only", []byte(head("header only")), clean(want{}, user)),
	}
}
