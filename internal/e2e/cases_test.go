package e2e

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

const (
	// logTimeout is how long a line may take through syslog to us.
	logTimeout = 5 * time.Second
	// fewestMails is how many mails are to be checked in full with each MTA.
	fewestMails = 120
)

// TestMail sends every mail in every profile to every MTA, over one SMTP connection
// for each of both.
func TestMail(t *testing.T) {
	cases := allCases(t)
	checked := map[*lab.MTA]int{}
	for _, profile := range []lab.Profile{lab.TagAndDiscard, lab.Reject, lab.Extensions} {
		t.Run(strings.ReplaceAll(profile.Name, " ", "-"), func(t *testing.T) {
			onEach(t, profile, func(t *testing.T, p *lab.Pipeline) {
				client := connect(t, p)
				for _, c := range cases {
					ok := t.Run(c.name, func(t *testing.T) {
						c.check(t, p, client, c.want[profile.Name])
						checked[p.MTA]++
					})
					if !ok { // who knows what state the session is in
						client.Close()
						client = connect(t, p)
					}
				}
				if err := client.Quit(); err != nil {
					t.Error(err)
				}
			})
		})
	}
	needLab(t)
	for _, mta := range lab.MTAs() {
		t.Logf("%d mails checked in full with %s", checked[mta], mta.Name)
		// Who asks for some of them by name wants no more.
		if checked[mta] < fewestMails && !strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
			t.Errorf("only %d mails were checked with %s, want at least %d", checked[mta], mta.Name, fewestMails)
		}
	}
}

// TestDifferences: what the table of differences names is there.
func TestDifferences(t *testing.T) {
	names := map[string]bool{}
	for _, c := range allCases(t) {
		if names[c.name] {
			t.Errorf("there are two cases %q", c.name)
		}
		names[c.name] = true
		if len(c.want) != 3 {
			t.Errorf("case %q says for %d profiles what is to become of it, want 3", c.name, len(c.want))
		}
	}
	for mta, d := range differences {
		for name := range d.mails {
			if !names[name] {
				t.Errorf("%s treats a mail %q in a way of its own, but there is none", mta.Name, name)
			}
		}
	}
}

func allCases(t *testing.T) []testCase {
	t.Helper()
	return slices.Concat(envelopeCases(), headerCases(), subjectCases(), forgeryCases(), bodyCases(), mimeCases(), badCases(t))
}

// head is the header of an ordinary mail.
func head(subject string) string { return lab.Header(sender, user, subject) }

// headWith is the same with text, which ends in CR LF or is empty, in place of
// the Subject field.
func headWith(text string) string { return strings.Replace(head(""), "Subject: \r\n", text, 1) }

// headAnd is the same with more fields below.
func headAnd(subject string, fields ...string) string {
	return head(subject) + strings.Join(append(fields, ""), "\r\n")
}
