package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// TestSubmittedMail: mail that is given to Postfix's sendmail command is scanned as
// well, by its non_smtpd_milters, to which paths come without brackets. sendmail
// asks its milters about SMTP only: TestLocalSubmission has it.
func TestSubmittedMail(t *testing.T) {
	onEach(t, lab.TagAndDiscard, func(t *testing.T, p *lab.Pipeline) {
		if p.MTA == lab.Postfix {
			testSubmittedMail(t, p)
		}
	})
}

func testSubmittedMail(t *testing.T, p *lab.Pipeline) {
	const other = "other@lab.test"
	for _, c := range []struct {
		name      string
		sender    string
		to        []string
		raw       []byte
		delivered []string
		mark      string // in a field of what is delivered
	}{
		{"clean", sender, []string{user, other}, lab.Text(head("minutes"), lab.CleanBody), []string{user, other}, "X-Spam-Flag: NO"},
		{"from nobody", "", []string{user}, lab.Text(head("minutes"), lab.CleanBody), []string{user}, "X-Spam-Flag: NO"},
		{"spam", sender, []string{user}, lab.Text(head("buy"), lab.GTUBEBody()), []string{user}, "Subject: ***SPAM*** buy"},
		{"virus", sender, []string{user, other}, lab.Text(head("a virus"), lab.EICARBody()), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := now(p)
			args := []string{"-i", "-f", c.sender, "--"}
			submit(t, strings.ReplaceAll(string(c.raw), "\r\n", "\n"), "/usr/sbin/sendmail", append(args, c.to...)...)
			err := lab.Poll(noticeTimeout, "amavisd to be asked", func() error {
				if n := p.Relay.Mark() - before.requests; n != 1 {
					return fmt.Errorf("it was %d times", n)
				}
				return nil
			})
			if err != nil {
				before.tell(t, p, "")
				t.Fatal(err)
			}
			deliveries := before.mustDeliver(t, p, c.delivered...)
			exchange := before.mustAsk(t, p, asked{c.sender, c.to})[0]
			id := attribute(t, exchange, "queue_id")
			if len(id) != 1 || len(attribute(t, exchange, "tempdir")) != 1 || attribute(t, exchange, "tempdir")[0] != lab.SpoolDir+"/amavis-milter-"+id[0] {
				t.Errorf("the queue id is %q, the directory %q", id, attribute(t, exchange, "tempdir"))
			}
			_, body := lab.SplitMessage(c.raw)
			for _, d := range deliveries {
				if !strings.Contains(string(d.Raw), c.mark+"\r\n") || lab.Hash(d.Body()) != lab.Hash(body) {
					t.Errorf("delivered was\n%s\nwant the mail with %q", cut(d.Raw), c.mark)
				}
				if received := d.Values("Received"); len(received) != 1 || len(id) != 1 || !strings.Contains(received[0], "id "+id[0]) {
					t.Errorf("Postfix calls it %q, amavisd was told queue id %q", received, id)
				}
			}
		})
	}
}
