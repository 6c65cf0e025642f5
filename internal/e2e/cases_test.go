package e2e

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// logTimeout is how long a line may take through syslog to us.
const logTimeout = 5 * time.Second

// Recipients of the lab. What they stand for is in the profile with extensions.
const (
	sender   = "someone@remote.test"
	user     = "user@lab.test"     // nothing special
	extended = "extended@lab.test" // gets spam at extended+spam
	lover    = "lover@lab.test"    // wants it all
	victim   = "victim@lab.test"   // gets viruses at victim+virus
)

// TestMail sends every mail in every profile to every MTA, over one SMTP connection
// for each of both.
func TestMail(t *testing.T) {
	cases := allCases(t)
	for _, profile := range []lab.Profile{lab.TagAndDiscard, lab.Reject, lab.Extensions} {
		t.Run(strings.ReplaceAll(profile.Name, " ", "-"), func(t *testing.T) {
			onEach(t, profile, func(t *testing.T, p *lab.Pipeline) {
				client := connect(t, p)
				for _, c := range cases {
					if w, ok := c.want[profile.Name]; ok {
						t.Run(c.name, func(t *testing.T) { c.check(t, p, client, w) })
					}
				}
				if err := client.Quit(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Fields that amavisd inserts in the profiles.
var (
	scanned  = `^X-Virus-Scanned: Debian amavis at lab\.test$`
	notSpam  = []string{`^X-Spam-Flag: NO$`, `^X-Spam-Score: [\d.]+$`, `^X-Spam-Level:`, `(?s)^X-Spam-Status: No, score=.* tests=\[.*LAB_CLIENT=0\.01`}
	spam     = []string{`^X-Spam-Flag: YES$`, `^X-Spam-Score: 1\d\d\d\.\d+$`, `^X-Spam-Level: \*{64}$`, `(?s)^X-Spam-Status: Yes, score=.* tests=\[.*GTUBE=1000.*LAB_CLIENT=0\.01`}
	ours     = `^X-Virus-Scanned: by amavis-milter$`
	quarant  = `^X-Quarantine-ID: <[\w-]+>$`
	infected = `^X-Amavis-Alert: INFECTED, message contains virus: Eicar-Signature\.UNOFFICIAL$`
)

func header(first string, more ...[]string) []string {
	all := []string{first}
	for _, m := range more {
		all = append(all, m...)
	}
	return all
}

// clean is what becomes of a clean mail in each profile.
func clean(w want, recipients ...string) map[string]want {
	w.reply, w.recipients = accepted, recipients
	debian := w
	debian.top = header(scanned, notSpam)
	extensions := w
	extensions.top = notSpam
	extensions.bottom = []string{ours}
	return map[string]want{
		lab.TagAndDiscard.Name: debian,
		lab.Reject.Name:        debian,
		lab.Extensions.Name:    extensions,
	}
}

func allCases(t *testing.T) []testCase {
	t.Helper()
	to := []string{user}
	head := func(subject string) string { return lab.Header(sender, user, subject) }
	zip, err := lab.EICARZip(head("a virus in a zip file"))
	if err != nil {
		t.Fatal(err)
	}
	virus := map[string]want{
		lab.TagAndDiscard.Name: {reply: accepted},
		lab.Reject.Name:        {reply: `^554 5\.7\.0 Reject, id=\w+-\d+ - INFECTED: Eicar-Signature\.UNOFFICIAL$`},
		lab.Extensions.Name:    {reply: accepted},
	}
	return []testCase{
		{"clean", sender, to, lab.Text(head("minutes"), lab.CleanBody), clean(want{}, user)},
		{"null sender", "", to, lab.Text(head("bounce"), lab.CleanBody), clean(want{}, user)},
		{"two recipients", sender, []string{user, "other@lab.test"}, lab.Text(head("minutes"), lab.CleanBody), clean(want{}, user, "other@lab.test")},
		{"spam", sender, to, lab.Text(head("buy"), lab.GTUBEBody()), map[string]want{
			lab.TagAndDiscard.Name: {
				reply: accepted, recipients: to,
				top:     header(quarant, []string{scanned}, spam),
				changed: map[string]string{"Subject": `^Subject: \*\*\*SPAM\*\*\* buy$`},
			},
			lab.Reject.Name:     {reply: `^554 5\.7\.0 Reject, id=\w+-\d+ - spam$`},
			lab.Extensions.Name: {reply: accepted},
		}},
		{"virus", sender, to, lab.Text(head("a virus"), lab.EICARBody()), virus},
		{"virus in a zip file", sender, to, zip, virus},
		{"spam for the good and the bad", sender, []string{user, extended, lover}, lab.Text(head("buy"), lab.GTUBEBody()), map[string]want{
			lab.Extensions.Name: {
				reply: accepted, recipients: []string{"extended+spam@lab.test", lover},
				top:     header(quarant, spam),
				changed: map[string]string{"Subject": `^Subject: \*\*\*SPAM\*\*\* buy$`},
				bottom:  []string{ours},
			},
		}},
		{"virus for the good and the bad", sender, []string{user, victim, lover}, lab.Text(head("a virus"), lab.EICARBody()), map[string]want{
			lab.Extensions.Name: {
				reply: accepted, recipients: []string{"victim+virus@lab.test", lover},
				top:     header(quarant, []string{infected}, notSpam),
				changed: map[string]string{"Subject": `^Subject: \*\*\*INFECTED\*\*\* a virus$`},
				bottom:  []string{ours},
			},
		}},
		{"eight bits", sender, to, lab.Text(head("Grüße"), "Schöne Grüße, žluťoučký kůň, 日本語\n"), clean(want{}, user)},
		{"long lines", sender, to, lab.Text(head("long lines"), strings.Repeat(strings.Repeat("word ", 199)+"end\n", 20)), clean(want{}, user)},
		{"dots", sender, to, lab.Text(head("dots"), ".\n..\n...\n. \n.end\n"), clean(want{}, user)},
		{"large", sender, to, lab.Text(head("large"), string(bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog again and again.\n"), 5<<20/61))), clean(want{}, user)},
		{"odd header fields", sender, to, lab.Text(head("odd")+strings.Join([]string{
			"X-No-Space:value", "X-Two-Spaces:  value", "X-Tab:\tvalue", "X-Empty:", "X-Blank: ",
			"X-Folded: one", "\ttwo", "   three", "X-Trailing: value  ", "X-Colon: a:b: c", "x-lower-case: value",
			"X-Percent: 100%s %n %20", ""}, "\r\n"), lab.CleanBody), clean(want{}, user)},
		{"forged X-Virus-Scanned", sender, to, lab.Text("X-Virus-Scanned: by me\r\n"+head("forged")+"x-virus-scanned: by amavis-milter\r\n"+
			"X-Amavis-Milter-Unscanned: timeout\r\nx-amavis-milter-unscanned: once more\r\n", lab.CleanBody), map[string]want{
			lab.Extensions.Name: {
				reply: accepted, recipients: to, top: notSpam,
				changed: map[string]string{"X-Virus-Scanned": ours},
				gone:    []string{"x-virus-scanned", "X-Amavis-Milter-Unscanned", "x-amavis-milter-unscanned"},
			},
		}},
		{"forged spam fields", sender, to, lab.Text("X-Spam-Flag: NO\r\n"+head("forged")+
			"X-Spam-Flag: NO\r\nX-Spam-Status: No, hits=-100\r\nX-Spam-Flag: NO\r\n", lab.CleanBody),
			clean(want{gone: []string{"X-Spam-Flag", "X-Spam-Status"}}, user)},
	}
}
