package e2e

import (
	"flag"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// TestMail sends every mail in every profile to every MTA, over a few SMTP
// connections with many mails each.
func TestMail(t *testing.T) {
	cases := allCases(t)
	checked := map[*lab.MTA]*atomic.Int64{}
	for _, mta := range lab.MTAs() {
		checked[mta] = new(atomic.Int64)
	}
	for _, profile := range []lab.Profile{lab.TagAndDiscard, lab.Reject, lab.Extensions} {
		t.Run(strings.ReplaceAll(profile.Name, " ", "-"), func(t *testing.T) {
			onEach(t, profile, func(t *testing.T, p *lab.Pipeline) {
				sessions := &sessions{p: p}
				for _, c := range cases {
					t.Run(c.name, func(t *testing.T) {
						if c.treatment(p.MTA).refuses == "" {
							t.Parallel()
						}
						sessions.use(t, func(client *lab.Client) { c.check(t, p, client, c.want[profile.Name]) })
						checked[p.MTA].Add(1)
					})
				}
				// This runs when all of them have ended.
				t.Cleanup(func() {
					sessions.close(t)
					mustSpoolEmpty(t, p)
				})
			})
		})
	}
	needLab(t)
	for _, mta := range lab.MTAs() {
		n := checked[mta].Load()
		t.Logf("%d mails checked in full with %s", n, mta.Name)
		// Who asks for some of them by name wants no more.
		if n < fewestMails && !strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
			t.Errorf("only %d mails were checked with %s, want at least %d", n, mta.Name, fewestMails)
		}
	}
}

// sessions are open SMTP sessions that wait for another mail.
type sessions struct {
	p    *lab.Pipeline
	mu   sync.Mutex
	idle []*lab.Client
}

// use calls f with a session that nobody else uses.
func (s *sessions) use(t *testing.T, f func(*lab.Client)) {
	t.Helper()
	client := s.take()
	if client == nil {
		var err error
		if client, _, err = lab.DialSMTP(lab.ClientAddress, s.p.MTA.Address); err != nil {
			t.Fatal(err)
		}
		mustReply(t, client, "EHLO helo.remote.test", 250)
	}
	defer func() {
		if t.Failed() { // who knows what state the session is in
			client.Close()
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.idle = append(s.idle, client)
	}()
	f(client)
}

func (s *sessions) take() *lab.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) == 0 {
		return nil
	}
	client := s.idle[len(s.idle)-1]
	s.idle = s.idle[:len(s.idle)-1]
	return client
}

func (s *sessions) close(t *testing.T) {
	t.Helper()
	for client := s.take(); client != nil; client = s.take() {
		if err := client.Quit(); err != nil {
			t.Error(err)
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
