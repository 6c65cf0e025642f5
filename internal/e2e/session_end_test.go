package e2e

import (
	"fmt"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// manyClients are so many SMTP sessions that begin at the same time.
const manyClients = 60

// TestManyClients: many clients at once; none is turned away, each mail is delivered
// exactly once.
func TestManyClients(t *testing.T) {
	onEach(t, virusesOnly, func(t *testing.T, p *lab.Pipeline) {
		requests := p.Relay.Mark()
		l := newLoad(p, manyClients, p.MTA)
		for id := range l.size {
			l.wg.Go(func() { l.sendOne(p.MTA, id) })
		}
		l.finish(t)
		if n := p.Relay.Mark() - requests; n != manyClients {
			t.Errorf("amavisd was asked %d times about %d mails", n, manyClients)
		}
	})
}

// TestClientHangsUpAtTheEnd: a client that has sent all of a mail, but does not wait
// for the reply, may think that it was not taken. The MTA goes on with it: amavisd
// is asked once, the mail delivered once, and nothing is left.
func TestClientHangsUpAtTheEnd(t *testing.T) { onEach(t, lab.TagAndDiscard, testClientHangsUpAtTheEnd) }

func testClientHangsUpAtTheEnd(t *testing.T, p *lab.Pipeline) {
	before := now(p)
	client := connect(t, p)
	envelope(t, client, sender, []string{user})
	if err := client.Write(append(cleanMail("no time to wait"), ".\r\n"...)); err != nil {
		t.Fatal(err)
	}
	client.Close()
	err := lab.Poll(noticeTimeout, "the mail to be delivered", func() error {
		if n := p.Sink.Mark() - before.delivered; n != 1 {
			return fmt.Errorf("%d mails were", n)
		}
		return nil
	})
	if err != nil {
		before.tell(t, p, "")
		t.Fatal(err)
	}
	mustTake(t, p, send(t, connect(t, p), sender, []string{"next@lab.test"}, cleanMail("the next one")), nil)
	before.mustAsk(t, p, asked{sender, []string{user}}, asked{sender, []string{"next@lab.test"}})
	before.mustDeliver(t, p, user, "next@lab.test")
}

// TestQueueIDInSpool: the directory of a mail bears its queue id from the beginning,
// though Postfix does not have one before the first recipient.
func TestQueueIDInSpool(t *testing.T) { onEach(t, lab.TagAndDiscard, testQueueIDInSpool) }

func testQueueIDInSpool(t *testing.T, p *lab.Pipeline) {
	client := connect(t, p)
	for range 2 {
		envelope(t, client, sender, []string{user})
		mustSpool(t, p, 1)
		names, err := p.Spool()
		if err != nil {
			t.Fatal(err)
		}
		reply, err := client.Data(cleanMail("what is my name?"))
		if id := mustTake(t, p, reply, err); len(names) != 1 || names[0] != "amavis-milter-"+id {
			t.Errorf("in the spool was %q, want amavis-milter-%s", names, id)
		}
	}
	if err := p.Flush(); err != nil {
		t.Error(err)
	}
}
