package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// typed is what an MTA makes of an argument of RCPT.
type typed struct {
	refused int    // its reply, if it does not take it
	to      string // whom it delivers to, without brackets
	told    string // what amavisd is told, if that is not to in brackets
	waits   bool   // it would not find him again: a mail that he is not to get is answered 451
}

func to(address string) typed         { return typed{to: address} }
func toAs(address, told string) typed { return typed{to: address, told: told} }
func refused(code int) typed          { return typed{refused: code} }

// waiting is the same for a recipient who cannot be deleted.
func (r typed) waiting() typed {
	r.waits = true
	return r
}

// path is what amavisd is told.
func (r typed) path() string {
	if r.told != "" {
		return r.told
	}
	return "<" + r.to + ">"
}

// typedPaths are the ways to write a recipient of ours.
var typedPaths = []struct {
	argument          string
	sendmail, postfix typed
}{
	// Plain ones are told as they were typed, whatever the MTA makes of them.
	{"<user@lab.test>", to("user@lab.test"), to("user@lab.test")},
	{"<User@LAB.Test>", to("User@LAB.Test"), to("User@LAB.Test")},
	{"user@lab.test", to("user@lab.test"), to("user@lab.test")},
	{`<"user"@lab.test>`, to(`"user"@lab.test`), toAs("user@lab.test", `<"user"@lab.test>`)},
	{`<"us er"@lab.test>`, to(`"us er"@lab.test`), to(`"us er"@lab.test`)},
	{`<us..er@lab.test>`, to("us..er@lab.test"), toAs(`"us..er"@lab.test`, "<us..er@lab.test>")},

	// A comment or a space is a character of sendmail's own between two words.
	{"<us(c)er@lab.test>", to("us.er@lab.test"), refused(501)},
	{"<us er@lab.test>", to("us.er@lab.test"), refused(501)},
	{"<us (c) er@lab.test>", to("us.er@lab.test"), refused(501)},
	{"us(c)er@lab.test", to("us.er@lab.test"), refused(501)},
	{"<user@lab(c)test>", to("user@lab.test"), refused(501)},
	{"<user@lab test>", to("user@lab.test"), refused(501)},
	{"<(c)user(c)@(c)lab.(c)test(c)>", to("user@lab.test"), to("user@lab.test")},
	{"< user @ lab . test >", to("user@lab.test"), to("user@lab.test")},

	// Postfix takes quotes off wherever they are.
	{`<user@"lab.test">`, refused(550), to("user@lab.test")},
	{`<user@"lab".test>`, refused(550), to("user@lab.test")},
	{`<user@lab\.test>`, refused(550), to("user@lab.test")},
	{`<user@\lab.test>`, refused(550), to("user@lab.test")},
	{`<"us"."er"@lab.test>`, to(`"us"."er"@lab.test`), to("us.er@lab.test")},
	{`<\user@lab.test>`, to(`\user@lab.test`), to("user@lab.test")},
	{`<us\ er@lab.test>`, to(`us\ er@lab.test`), to(`"us er"@lab.test`)},
	{`<"user@lab.test">`, to("user@lab.test"), to("user@lab.test")},

	// Routes, of which an address is made.
	{"<lab.test!user>", to("user@lab.test"), to("user@lab.test")},
	{"<user%lab.test>", to("user@lab.test"), to("user@lab.test")},
	{"<user%lab.test@mx.lab.test>", to("user@lab.test"), refused(554)},
	{"<lab.test!user@mx.lab.test>", to("user@lab.test"), refused(554)},
	{"<@relay.test,@other.test:user@lab.test>", to("user@lab.test"), to("user@lab.test")},
	{"<user@lab.test.>", to("user@lab.test"), to("user@lab.test")},
	{"<user>", refused(550), to("user@lab.test")},

	// What stands around a path in a header.
	{`"x"<user@lab.test>`, to("user@lab.test"), to("user@lab.test")},
	{`x<User@LAB.Test>`, to("User@LAB.Test"), toAs("User@LAB.Test", "<user@lab.test>")},
	{"<user@lab.test>(c)", to("user@lab.test"), to("user@lab.test")},
	{"(c)<user@lab.test>", to("user@lab.test"), to("user@lab.test")},
	{"<<user@lab.test>>", to("user@lab.test"), to("user@lab.test")},
	{"<x<user@lab.test>>", to("user@lab.test"), to("user@lab.test")},
	{"<user@lab.test>>", refused(553), to("user@lab.test")},
	{"<user@lab.test>x", to("user@lab.test"), refused(501)},

	// Lists, in which the MTA does not find the one again.
	{"<user@lab.test,>", refused(553), to("user@lab.test").waiting()},
	{"<user@lab.test;>", to("user@lab.test").waiting(), to("user@lab.test").waiting()},
	{"<g:user@lab.test;>", to("g:user@lab.test").waiting(), to("user@lab.test").waiting()},
	{"<us:er@lab.test>", to("us:er@lab.test").waiting(), to(`"us:er"@lab.test`).waiting()},
	{"<user@lab.test,lover@lab.test>", refused(553), refused(501)},
}

// typedOn is what an MTA makes of an argument of the table.
func typedOn(mta *lab.MTA, i int) typed {
	if mta == lab.Postfix {
		return typedPaths[i].postfix
	}
	return typedPaths[i].sendmail
}

// TestPathsAsTyped: however a recipient is typed, amavisd is told whom the MTA delivers
// to, and spam to him bears its mark.
func TestPathsAsTyped(t *testing.T) {
	onEach(t, lab.TagAndDiscard, func(t *testing.T, p *lab.Pipeline) {
		for i, c := range typedPaths {
			t.Run(c.argument, func(t *testing.T) {
				want := typedOn(p.MTA, i)
				before := now(p)
				reply := sendTyped(t, p, "<"+sender+">", want.refused, c.argument)
				if want.refused != 0 {
					return
				}
				mustTake(t, p, reply, nil)
				exchange := before.mustTell(t, p)
				mustAttributes(t, exchange, map[string]string{"recipient": want.path()})
				for _, d := range before.mustDeliver(t, p, want.to) {
					if flag := d.Values("X-Spam-Flag"); !slices.Equal(flag, []string{"YES"}) {
						t.Errorf("amavisd was told %q, and the spam delivered to %q has X-Spam-Flag %q", attribute(t, exchange, "recipient"), d.Recipients, flag)
					}
				}
			})
		}
	})
}

// TestDeletionAsTyped: who is to get no spam gets none, however he was typed, and who
// loves it does; or nobody gets any yet.
func TestDeletionAsTyped(t *testing.T) {
	onEach(t, lab.Extensions, func(t *testing.T, p *lab.Pipeline) {
		for i, c := range typedPaths {
			want := typedOn(p.MTA, i)
			if want.refused != 0 {
				continue
			}
			t.Run(c.argument, func(t *testing.T) {
				before := now(p)
				reply := sendTyped(t, p, "<"+sender+">", 0, "<lover@lab.test>", c.argument)
				if want.waits {
					if reply.Code != 451 {
						t.Errorf("the client was told %q, want 451", reply)
					}
					before.mustDeliver(t, p)
					return
				}
				mustTake(t, p, reply, nil)
				before.mustDeliver(t, p, "lover@lab.test")
			})
		}
		t.Run("in several ways at once", func(t *testing.T) {
			before := now(p)
			reply := sendTyped(t, p, "<"+sender+">", 0, "<lab.test!user>", "<lover@lab.test>", "<user@lab.test>", "<user%lab.test>", `"x"<user@lab.test>`, "<user@lab.test.>")
			mustTake(t, p, reply, nil)
			before.mustDeliver(t, p, "lover@lab.test")
		})
	})
}

// TestSendersAsTyped: the sender that amavisd is told is the one that the MTA delivers
// from.
func TestSendersAsTyped(t *testing.T) {
	onEach(t, lab.TagAndDiscard, func(t *testing.T, p *lab.Pipeline) {
		for _, c := range []struct {
			argument          string
			sendmail, postfix typed
		}{
			{"<Joe@Remote.test>", to("Joe@Remote.test"), to("Joe@Remote.test")},
			{"<>", to(""), to("")},
			{"<j(c)oe@remote.test>", to("j.oe@remote.test"), refused(501)},
			{"<joe@remote(c)test>", to("joe@remote.test"), refused(501)},
			{`<joe@"remote.test">`, to(`joe@"remote.test"`), to("joe@remote.test")},
			{"<remote.test!joe>", to("joe@remote.test"), to("joe@remote.test")},
			{"<joe%remote.test>", to("joe@remote.test"), to("joe@remote.test")},
			{"<@relay.test:joe@remote.test>", to("joe@remote.test"), to("joe@remote.test")},
			{`"x"<joe@remote.test>`, to("joe@remote.test"), to("joe@remote.test")},
			{"<joe@remote.test,>", refused(553), to("joe@remote.test")},
			{"<g:joe@remote.test;>", to("g:joe@remote.test"), to("joe@remote.test")},
			{"<joe>", refused(553), to("joe@lab.test")},
			{`"x"<>`, refused(553), to("")},
		} {
			t.Run(c.argument, func(t *testing.T) {
				want := c.sendmail
				if p.MTA == lab.Postfix {
					want = c.postfix
				}
				before := now(p)
				client := connect(t, p)
				reply, err := client.Command("MAIL FROM:" + c.argument)
				if err != nil || want.refused != 0 {
					if reply.Code != want.refused {
						t.Errorf("MAIL was answered %q, error %v; want %d", reply, err, want.refused)
					}
					return
				}
				mustReply(t, client, "RCPT TO:<"+user+">", 250)
				mustReply(t, client, "DATA", 354)
				reply, err = client.Data(cleanMail(c.argument))
				mustTake(t, p, reply, err)
				mustAttributes(t, before.mustTell(t, p), map[string]string{"sender": want.path()})
				for _, d := range before.mustDeliver(t, p, user) {
					if d.Sender != "<"+want.to+">" {
						t.Errorf("delivered from %s, want <%s>", d.Sender, want.to)
					}
				}
			})
		}
	})
}

// sendTyped sends spam to recipients as they are given, of whom the last is refused if
// there is a code for it. It returns the reply to the end of the data.
func sendTyped(t *testing.T, p *lab.Pipeline, from string, refused int, recipients ...string) lab.Reply {
	t.Helper()
	client := connect(t, p)
	mustReply(t, client, "MAIL FROM:"+from, 250)
	last := len(recipients) - 1
	for _, argument := range recipients[:last] {
		mustReply(t, client, "RCPT TO:"+argument, 250)
	}
	if refused != 0 {
		mustReply(t, client, "RCPT TO:"+recipients[last], refused)
		return lab.Reply{}
	}
	mustReply(t, client, "RCPT TO:"+recipients[last], 250)
	mustReply(t, client, "DATA", 354)
	reply, err := client.Data(lab.Text(lab.Header(sender, user, strings.Join(recipients, " ")), lab.GTUBEBody()))
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// mustTell fails unless amavisd was asked about one mail since.
func (m marks) mustTell(t *testing.T, p *lab.Pipeline) lab.Exchange {
	t.Helper()
	return oneExchange(t, p, m.requests)
}
