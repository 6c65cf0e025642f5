package e2e

import (
	"regexp"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// TestRefusedRecipients: amavisd is asked about those recipients that the MTA took,
// in their order, and not at all if there are none.
func TestRefusedRecipients(t *testing.T) { onEach(t, lab.TagAndDiscard, testRefusedRecipients) }

func testRefusedRecipients(t *testing.T, p *lab.Pipeline) {
	const other = "other@lab.test"
	client := connect(t, p)
	for _, recipients := range [][]string{
		{user, "", other}, {"", user, other}, {user, other, ""}, {"", "", user, "", "", other, ""}, {""}, {"", ""},
	} {
		before := now(p)
		mustReply(t, client, "MAIL FROM:<"+sender+">", 250)
		var taken []string
		for _, recipient := range recipients {
			if recipient != "" {
				mustReply(t, client, "RCPT TO:<"+recipient+">", 250)
				taken = append(taken, recipient)
				continue
			}
			reply, err := client.Command("RCPT TO:<someone@elsewhere.test>")
			if err != nil || !regexp.MustCompile(differences[p.MTA].relaying).MatchString(reply.String()) {
				t.Fatalf("a recipient elsewhere: reply %q, error %v; want %s", reply, err, differences[p.MTA].relaying)
			}
		}
		if taken == nil {
			if reply, err := client.Command("DATA"); err != nil || reply.Code/100 != 5 {
				t.Errorf("DATA without recipients: reply %q, error %v; want 5xx", reply, err)
			}
			mustReply(t, client, "RSET", 250)
			before.mustAsk(t, p)
			continue
		}
		mustReply(t, client, "DATA", 354)
		reply, err := client.Data(cleanMail("for some"))
		mustTake(t, p, reply, err)
		before.mustAsk(t, p, asked{sender, taken})
		before.mustDeliver(t, p, taken...)
	}
}

// TestResetAnywhere: RSET at any point of a transaction leaves nothing of it.
func TestResetAnywhere(t *testing.T) { onEach(t, lab.TagAndDiscard, testResetAnywhere) }

func testResetAnywhere(t *testing.T, p *lab.Pipeline) {
	before := now(p)
	client := connect(t, p)
	mustReply(t, client, "RSET", 250)
	transaction := []string{"MAIL FROM:<first@remote.test>", "RCPT TO:<first@lab.test>", "RCPT TO:<second@lab.test>", "NOOP"}
	for n := range len(transaction) + 1 {
		for _, command := range transaction[:n] {
			mustReply(t, client, command, 250)
		}
		mustReply(t, client, "RSET", 250)
		mustReply(t, client, "RSET", 250)
	}
	mustReply(t, client, "MAIL FROM:<first@remote.test>", 250)
	if reply, err := client.Command("RCPT TO:<someone@elsewhere.test>"); err != nil || reply.Code/100 != 5 {
		t.Fatalf("a recipient elsewhere: reply %q, error %v; want 5xx", reply, err)
	}
	mustReply(t, client, "RSET", 250)
	mustSpoolEmpty(t, p)
	want := []asked{}
	for _, to := range []string{user, "other@lab.test"} {
		reply := send(t, client, sender, []string{to}, cleanMail("after RSET"))
		mustTake(t, p, reply, nil)
		want = append(want, asked{sender, []string{to}})
		mustReply(t, client, "RSET", 250)
	}
	before.mustAsk(t, p, want...)
	before.mustDeliver(t, p, user, "other@lab.test")
}

// TestOtherCommands: what else a client says between the commands of a transaction
// makes no difference to it.
func TestOtherCommands(t *testing.T) { onEach(t, lab.TagAndDiscard, testOtherCommands) }

func testOtherCommands(t *testing.T, p *lab.Pipeline) {
	before := now(p)
	client := connect(t, p)
	say := func(commands map[string]int) {
		t.Helper()
		for command, class := range commands {
			if reply, err := client.Command(command); err != nil || reply.Code/100 != class {
				t.Errorf("%s: reply %q, error %v; want %dxx", command, reply, err, class)
			}
		}
	}
	any := map[string]int{"NOOP": 2, "FROB x y": 5, "VRFY <" + user + ">": 2, "": 5, "MAIL": 5, "RCPT": 5}
	say(any)
	say(map[string]int{"RCPT TO:<early@lab.test>": 5, "DATA": 5})
	mustReply(t, client, "MAIL FROM:<"+sender+">", 250)
	say(any)
	say(map[string]int{"MAIL FROM:<nested@remote.test>": 5})
	mustReply(t, client, "RCPT TO:<"+user+">", 250)
	say(any)
	say(map[string]int{"MAIL FROM:<nested@remote.test>": 5, "RCPT TO:no path at all <": 5})
	mustReply(t, client, "DATA", 354)
	reply, err := client.Data(cleanMail("after much talk"))
	mustTake(t, p, reply, err)
	before.mustAsk(t, p, asked{sender, []string{user}})
	before.mustDeliver(t, p, user)
}

// TestRefusedSenders: a transaction whose MAIL was refused is none, and the next
// one is not harmed.
func TestRefusedSenders(t *testing.T) { onEach(t, lab.TagAndDiscard, testRefusedSenders) }

func testRefusedSenders(t *testing.T, p *lab.Pipeline) {
	before := now(p)
	client := connect(t, p)
	for _, command := range []string{"MAIL FROM:<a@b", "MAIL FROM:<a@remote.test> NONSENSE=1", "MAIL FROM:<a@remote.test> BODY=16BIT", "MAIL TO:<" + user + ">"} {
		if reply, err := client.Command(command); err != nil || reply.Code/100 != 5 {
			t.Errorf("%s: reply %q, error %v; want 5xx", command, reply, err)
		}
		if reply, err := client.Command("RCPT TO:<" + user + ">"); err != nil || reply.Code/100 != 5 {
			t.Errorf("RCPT after that: reply %q, error %v; want 5xx", reply, err)
		}
	}
	mustTake(t, p, send(t, client, sender, []string{user}, cleanMail("at last")), nil)
	before.mustAsk(t, p, asked{sender, []string{user}})
	before.mustDeliver(t, p, user)
}

// TestTwoNames: of two mails in one session each is judged by the name that was
// last said before it, and by whether it came over TLS.
func TestTwoNames(t *testing.T) { onEach(t, lab.TagAndDiscard, testTwoNames) }

func testTwoNames(t *testing.T, p *lab.Pipeline) {
	before := now(p)
	client := connect(t, p)
	names := []string{"one.remote.test", "two.remote.test", "three.remote.test"}
	for i, name := range names {
		if i == 2 {
			if err := client.StartTLS(); err != nil {
				t.Fatal(err)
			}
		}
		mustReply(t, client, "EHLO "+name, 250)
		mustTake(t, p, send(t, client, sender, []string{user}, cleanMail(name)), nil)
	}
	mail := asked{sender, []string{user}}
	for i, exchange := range before.mustAsk(t, p, mail, mail, mail) {
		want := map[string]string{"helo_name": names[i], "protocol_name": "ESMTP"}
		if i == 2 {
			want["protocol_name"] = "ESMTPS"
		}
		mustAttributes(t, exchange, want)
		mustBeginWith(t, exchange.Spooled, "Received: from "+names[i]+" (")
	}
	before.mustDeliver(t, p, user, user, user)
}
