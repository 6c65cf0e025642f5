package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// What the client reads beyond a limit, in full.
const (
	beyondSessions = "451 4.3.2 Too many connections, try again later"
	beyondSpool    = "452 4.3.1 "
)

// TestSessionLimit: who comes beyond --max-sessions is refused at MAIL by a 4xx of
// ours, on the same SMTP session again, and no other mail is; then there is room again.
func TestSessionLimit(t *testing.T) { onEach(t, lab.TagAndDiscard, testSessionLimit) }

func testSessionLimit(t *testing.T, p *lab.Pipeline) {
	withDirectScanner(t, p, "--max-sessions", "2")
	inside := []*lab.Client{connect(t, p), connect(t, p)}
	for _, client := range inside {
		if reply := send(t, client, sender, []string{user}, cleanMail("within the limit")); queueID(p.MTA, reply) == "" {
			t.Errorf("within the limit the client was told %q", reply)
		}
	}
	late := connect(t, p)
	for range 2 {
		reply, err := late.Command("MAIL FROM:<" + sender + ">")
		if err != nil || reply.String() != beyondSessions {
			t.Errorf("beyond the limit the client was told %q, %v", reply, err)
		}
	}
	if reply := send(t, inside[1], sender, []string{user}, cleanMail("still within")); queueID(p.MTA, reply) == "" {
		t.Errorf("within the limit, while others were refused, the client was told %q", reply)
	}
	if err := inside[0].Quit(); err != nil {
		t.Error(err)
	}
	err := lab.Poll(10*time.Second, "a session to be free again", func() error {
		client := connect(t, p)
		defer client.Quit()
		reply, err := client.Command("MAIL FROM:<" + sender + ">")
		if err == nil && reply.Code != 250 {
			err = fmt.Errorf("the client was told %q", reply)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if told := strings.Count(p.Milter.Output(), "too many connections: further ones are refused"); told != 1 {
		t.Errorf("%d lines about it in the log, want one", told)
	}
	mustSpoolEmpty(t, p)
}

// TestSpoolLimits: mail beyond --max-spool, or for which there is less than --min-free,
// is put off at its end, and what is smaller passes on the same session.
func TestSpoolLimits(t *testing.T) { onEach(t, lab.TagAndDiscard, testSpoolLimits) }

func testSpoolLimits(t *testing.T, p *lab.Pipeline) {
	large := lab.Text(lab.Header(sender, user, "large"), strings.Repeat(lab.CleanBody, 1+(200<<10)/len(lab.CleanBody)))
	t.Run("max-spool", func(t *testing.T) {
		withDirectScanner(t, p, "--max-spool", "100K")
		client := connect(t, p)
		if reply := send(t, client, sender, []string{user}, large); !strings.HasPrefix(reply.String(), beyondSpool) {
			t.Errorf("the client was told %q, want %q", reply, beyondSpool)
		}
		mustSpoolEmpty(t, p)
		if reply := send(t, client, sender, []string{user}, cleanMail("small")); queueID(p.MTA, reply) == "" {
			t.Errorf("a small mail was answered %q", reply)
		}
	})
	t.Run("min-free", func(t *testing.T) {
		withDirectScanner(t, p, "--min-free", "1024T", "-P")
		client := connect(t, p)
		for range 2 {
			if reply := send(t, client, sender, []string{user}, cleanMail("no room")); !strings.HasPrefix(reply.String(), beyondSpool) {
				t.Errorf("the client was told %q, want %q", reply, beyondSpool)
			}
		}
		mustSpoolEmpty(t, p)
		const told = "warn spool: messages cannot be stored: less than --min-free would be left on the file system"
		if n := strings.Count(p.Milter.Output(), told); n != 1 {
			t.Errorf("%d lines about it in the log, want one", n)
		}
	})
}
