package e2e

import (
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// subjectCases are spam whose subjects are not easily tagged.
func subjectCases() []testCase {
	c := func(name, subject string, want map[string]want) testCase {
		return mail(name, lab.Text(headWith(subject), lab.GTUBEBody()), want).to(user, extended, lover)
	}
	to := []string{user, extended, lover}
	return []testCase{
		c("spam for the good and the bad", "Subject: buy\r\n", spam(`^Subject: \*\*\*SPAM\*\*\* buy$`, to...)),
		c("eight bits in the Subject of spam", "Subject: Grüße, 日本語\r\n", spam(`^Subject: \*\*\*SPAM\*\*\* =\?UTF-8\?Q\?Gr=C3=BC=C3=9Fe,_=E6=97=A5=E6=9C=AC=E8=AA=9E\?=$`, to...)),
		c("encoded Subject of spam", "Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= =?utf-8?B?5pel5pys6Kqe?=\r\n",
			spam(`^Subject: \*\*\*SPAM\*\*\* =\?UTF-8\?Q\?Gr=C3=BC=C3=9Fe=E6=97=A5=E6=9C=AC=E8=AA=9E\?=$`, to...)),
		c("folded Subject of spam", "Subject: buy\r\n\tone\r\n  two\r\n", spam(`^Subject: \*\*\*SPAM\*\*\* buy\r\n\tone\r\n  two$`, to...)),
		c("Subject of spam folded at once", "Subject:\r\n buy\r\n", spam(`^Subject: \*\*\*SPAM\*\*\* \r\n buy$`, to...)),
		c("empty Subject of spam", "Subject:\r\n", spam(`^Subject: \*\*\*SPAM\*\*\* ?$`, to...)),
		c("spam without Subject", "", adding(spam("", to...), `^Subject: \*\*\*SPAM\*\*\* ?$`)),
		c("spam with two Subjects", "Subject: buy\r\nX-Between: yes\r\nSubject: sell\r\n", spamLike(want{reply: accepted, recipients: to,
			top:     []string{`^X-Amavis-Alert: BAD HEADER SECTION, Duplicate header field: "Subject"$`},
			changed: map[string]string{"Subject": `^Subject: \*\*\*SPAM\*\*\* buy$`}}, isSpam)),
		c("spam with a SUBJECT", "SUBJECT: buy\r\n", spamLike(want{reply: accepted, recipients: to, changed: map[string]string{"SUBJECT": `^SUBJECT: \*\*\*SPAM\*\*\* buy$`}}, isSpam)),
		c("Subject of spam without space", "Subject:buy\r\n", spam(`^Subject: \*\*\*SPAM\*\*\* buy$`, to...)),
		c("long Subject of spam", "Subject: "+strings.Repeat("buy ", 240)+"now\r\n", spam(`^Subject: \*\*\*SPAM\*\*\* (buy(\r\n)? ){240}now$`, to...)),
	}
}

// forgeryCases are mails that bear marks of a filter already.
func forgeryCases() []testCase {
	forged := lab.Text("X-Virus-Scanned: by me\r\n"+headAnd("forged", "x-virus-scanned: by amavis-milter",
		"X-Amavis-Milter-Unscanned: timeout", "x-amavis-milter-unscanned: once more"), lab.CleanBody)
	marks := []string{"X-Amavis-Milter-Unscanned", "x-amavis-milter-unscanned"}
	// Where amavisd sets the field itself, what came with the mail is its business.
	wanted := clean(want{gone: marks}, user)
	wanted[lab.Extensions.Name] = want{
		reply: accepted, recipients: []string{user}, top: notSpam,
		changed: map[string]string{"X-Virus-Scanned": ours},
		gone:    append([]string{"x-virus-scanned"}, marks...),
	}
	return []testCase{
		mail("forged X-Virus-Scanned", forged, wanted),
		mail("forged spam fields", lab.Text("X-Spam-Flag: NO\r\n"+headAnd("forged",
			"X-Spam-Flag: NO", "X-Spam-Status: No, hits=-100", "\ttests=[]", "x-SPAM-flag: NO", "X-Spam-Flag: NO", "X-Spam-Level: "), lab.CleanBody),
			clean(want{gone: []string{"X-Spam-Flag", "x-SPAM-flag", "X-Spam-Status", "X-Spam-Level"}}, user)),
		mail("forged spam fields on spam", lab.Text("X-Spam-Flag: NO\r\n"+headAnd("buy",
			"X-Spam-Flag: NO", "X-Spam-Status: No", "X-Quarantine-ID: <mine>", "X-Amavis-Alert: none"), lab.GTUBEBody()),
			spamLike(want{recipients: []string{user, extended, lover}, reply: accepted,
				changed: map[string]string{"Subject": `^Subject: \*\*\*SPAM\*\*\* buy$`}, gone: []string{"X-Spam-Flag", "X-Spam-Status"}}, isSpam)).to(user, extended, lover),
	}
}
