package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// usual is what every signature covers.
var usual = []string{"From", "To", "Subject", "Date", "Message-ID"}

func usualAnd(more ...string) []string { return append(slices.Clone(usual), more...) }

// signedShape is a message and its signatures.
type signedShape struct {
	name     string
	header   string   // before the usual fields
	subject  string   // the field without its CR LF; "Subject: " and the name if empty
	replace  []string // in the header: old, new, …
	body     string   // "A line.\r\n" if empty; see noBody
	noBody   bool
	to       string // user if empty
	signings []signing
}

// message puts a message together and signs it.
func (s signedShape) message(t *testing.T, k *signer) shape {
	t.Helper()
	subject := s.subject
	if subject == "" {
		subject = "Subject: " + s.name
	}
	now := time.Now()
	header := fmt.Sprintf("%sFrom: Some One <%s>\r\nTo: <%s>\r\n%s\r\nDate: %s\r\nMessage-ID: <%d@remote.test>\r\nMIME-Version: 1.0\r\n",
		s.header, sender, user, subject, now.Format(time.RFC1123Z), now.UnixNano())
	header = strings.NewReplacer(s.replace...).Replace(header)
	body := s.body
	if body == "" && !s.noBody {
		body = "A line.\r\n"
	}
	raw := []byte(header + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + body)
	for _, signing := range s.signings {
		raw = k.sign(t, raw, signing)
	}
	return shape{name: s.name, raw: raw, to: s.to}
}

// simply is one signature with c=simple/simple.
func simply(fields ...string) []signing { return []signing{{fields: fields}} }

// simpleShapes are awkward messages with c=simple/simple. Address fields keep to
// what sendmail leaves alone, see byteDifferences.
func simpleShapes() []signedShape {
	return []signedShape{
		{name: "plain", signings: simply(usual...)},
		{name: "no space", replace: []string{"From: ", "From:", "To: ", "To:", "Subject: ", "Subject:", "Date: ", "Date:", "Message-ID: ", "Message-ID:"}, signings: simply(usual...)},
		{name: "two spaces", replace: []string{"From: ", "From:  ", "To: ", "To:  ", "Subject: ", "Subject:  ", "Date: ", "Date:  "}, signings: simply(usual...)},
		{name: "tab", replace: []string{"Subject: ", "Subject:\t", "Date: ", "Date: \t", "Message-ID: ", "Message-ID:\t "}, signings: simply(usual...)},
		{name: "value on the next line", subject: "Subject:\r\n value on the next line", replace: []string{"Message-ID: ", "Message-ID:\r\n\t"}, signings: simply(usual...)},
		{name: "folds of several kinds", subject: "Subject: one \r\n two\t\r\n\tthree\r\n  \tfour  ", signings: simply(usual...)},
		{name: "empty value", subject: "Subject:", signings: simply(usual...)},
		{name: "blank value", subject: "Subject: \t ", signings: simply(usual...)},
		{name: "a fold alone", header: "X-Shape:\r\n \r\nX-Other: one\r\n\t\r\n two\r\n", signings: simply(usualAnd("X-Shape", "X-Other")...)},
		{name: "trailing spaces", subject: "Subject: trailing spaces  \t ", signings: simply(usual...)},
		{name: "names in odd case", replace: []string{"From:", "FROM:", "Subject:", "sUbJeCt:", "Date:", "date:", "Message-ID:", "MESSAGE-id:"}, signings: simply("from", "TO", "Subject", "dAtE", "Message-Id")},
		{name: "8 bit", subject: "Subject: Gr\u00fc\u00dfe \u65e5\u672c\u8a9e \xfc\xff", body: "Sch\u00f6ne Gr\u00fc\u00dfe \xe4\x80\r\n", signings: simply(usual...)},
		{name: "control bytes", subject: "Subject: bell\a escape\x1b delete\x7f\f\v", body: "\x01\x02\x7f\r\n", signings: simply(usual...)},
		{name: "32 KB folded", header: "X-Shape:" + strings.Repeat(" 0123456789abcdef\r\n", 2048), signings: simply(usualAnd("X-Shape")...)},
		{name: "1,000 fields", header: manyFields(1000), signings: simply(usualAnd("X-Field-0", "X-Field-1", "X-Field-499", "X-Field-998", "X-Field-999")...)},
		{name: "same name three times", header: "X-Shape: 1\r\nX-Shape:  1\r\nX-Shape:1\r\n", signings: simply(usualAnd("X-Shape", "X-Shape", "X-Shape")...)},
		{name: "the lower two of three", header: "X-Shape: 1\r\nX-Shape:  2\r\nX-Shape:3\r\n", signings: simply(usualAnd("X-Shape", "X-Shape")...)},
		{name: "oversigned", signings: simply(usualAnd("From", "Subject", "Date", "X-Missing", "X-Missing", "Resent-From")...)},
		{name: "earlier hops", header: "Received: from a by b;\r\n\tMon, 23 Nov 2026 19:32:07 +0000\r\nReceived:from c by d\r\n", signings: simply(usualAnd("Received", "Received")...)},
		{name: "marks that are replaced", header: "X-Spam-Flag: NO\r\nX-Virus-Scanned: by me\r\nX-Amavis-Milter-Unscanned: no\r\n", signings: simply(usual...)},
		{name: "empty body", noBody: true, signings: simply(usual...)},
		{name: "body of empty lines", body: "\r\n\r\n\r\n", signings: simply(usual...)},
		{name: "empty lines around the body", body: "\r\n\r\nA line.\r\n\r\n\r\n", signings: simply(usual...)},
		{name: "spaces in the body", body: " one  two\t\t \r\n   \r\n\t\r\nend  \r\n", signings: simply(usual...)},
		{name: "dots", body: ".\r\n..\r\n...\r\n.a\r\n. \r\n", signings: simply(usual...)},
		{name: "CR LF cut in two", body: strings.Repeat("\r\n", milterChunkBytes) + "end\r\n", signings: simply(usual...)},
		{name: "layout of the signature", signings: []signing{{fields: usual,
			layout: "dkim-SIGNATURE:\r\n  v=1;c=;a=rsa-sha256\r\n\t;\tb=;\r\n d=remote.test ; s=lab;  h=;\r\n\t \tbh=;  \r\n"}}},
		{name: "two signatures", signings: []signing{{fields: usual}, {fields: usualAnd("DKIM-Signature")}}},
	}
}

// relaxedShapes are some of the same with c=relaxed/relaxed.
func relaxedShapes() []signedShape {
	var relaxed []signedShape
	for _, s := range simpleShapes() {
		switch s.name {
		case "no space", "folds of several kinds", "empty value", "empty body", "body of empty lines", "spaces in the body", "same name three times":
			s.name += ", relaxed"
			s.signings = slices.Clone(s.signings)
			for i := range s.signings {
				s.signings[i].relaxed = true
			}
			relaxed = append(relaxed, s)
		}
	}
	return relaxed
}

// spamShapes are two that amavisd writes a mark into the Subject of: one is signed
// with its Subject, one without.
func spamShapes() []signedShape {
	body := strings.ReplaceAll(lab.GTUBEBody(), "\n", "\r\n")
	return []signedShape{
		{name: "spam, Subject signed", body: body, to: lover, signings: simply(usual...)},
		{name: "spam, Subject not signed", body: body, to: lover, signings: simply("From", "To", "Date", "Message-ID")},
	}
}
