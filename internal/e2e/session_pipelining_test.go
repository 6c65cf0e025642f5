package e2e

import (
	"bytes"
	"regexp"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// TestPipelining: several mails in one session, each but the first with its
// commands in the same packet as the end of the one before.
func TestPipelining(t *testing.T) { onEach(t, lab.TagAndDiscard, testPipelining) }

func testPipelining(t *testing.T, p *lab.Pipeline) {
	before := now(p)
	client := connect(t, p)
	const mails = 4
	commands := func(to string) string {
		return "MAIL FROM:<" + sender + ">\r\nRCPT TO:<nobody@elsewhere.test>\r\nRCPT TO:<" + to + ">\r\nNOOP\r\nDATA\r\n"
	}
	var want []asked
	write := commands(many(mails)[0])
	for i, to := range many(mails) {
		if err := client.Write([]byte(write)); err != nil {
			t.Fatal(err)
		}
		mustReadReplies(t, client, 250, 0, 250, 250, 354)
		raw := lab.Text(lab.Header(sender, to, "pipelined"), "Mail for "+to+"\n")
		write = string(raw) + ".\r\n"
		if i+1 < mails {
			write += commands(many(mails)[i+1])
			want = append(want, asked{sender, []string{to}})
			if err := client.Write([]byte(write)); err != nil {
				t.Fatal(err)
			}
			reply, err := client.ReadReply()
			mustTake(t, p, reply, err)
			write = ""
			continue
		}
		want = append(want, asked{sender, []string{to}})
		reply, err := client.Data(raw)
		mustTake(t, p, reply, err)
	}
	before.mustAsk(t, p, want...)
	for _, d := range before.mustDeliver(t, p, many(mails)...) {
		if text := "Mail for " + d.Recipients[0][1:len(d.Recipients[0])-1] + "\r\n"; string(d.Body()) != text {
			t.Errorf("delivered to %q: %q, want %q", d.Recipients, d.Body(), text)
		}
	}
}

// mustReadReplies reads replies with these codes; 0 is the MTA's to a recipient
// that is none of ours.
func mustReadReplies(t *testing.T, client *lab.Client, codes ...int) {
	t.Helper()
	for _, code := range codes {
		reply, err := client.ReadReply()
		if err != nil || code != 0 && reply.Code != code || code == 0 && reply.Code/100 != 5 {
			t.Fatalf("reply %q, error %v; want %d; the session:\n%q", reply, err, code, client.Transcript)
		}
	}
}

// offers reports whether the MTA offers an extension of SMTP; what it says must
// agree with the table of differences.
func offers(t *testing.T, p *lab.Pipeline, client *lab.Client, keyword string) bool {
	t.Helper()
	reply, err := client.Command("EHLO helo.remote.test")
	if err != nil || reply.Code != 250 {
		t.Fatalf("EHLO: reply %q, error %v", reply, err)
	}
	offered := regexp.MustCompile(`(?m)^250[ -]` + keyword + `$`).MatchString(reply.String())
	if want := differences[p.MTA].extensions[keyword]; offered != want {
		t.Fatalf("%s offers %s: %t, want %t; it said\n%s", p.MTA.Name, keyword, offered, want, reply)
	}
	return offered
}

// TestChunks sends mail by BDAT, where the MTA knows it.
func TestChunks(t *testing.T) { onEach(t, lab.TagAndDiscard, testChunks) }

func testChunks(t *testing.T, p *lab.Pipeline) {
	client := connect(t, p)
	if !offers(t, p, client, "CHUNKING") {
		mustReply(t, client, "BDAT 0 LAST", 500)
		reply := send(t, client, sender, []string{user}, cleanMail("after BDAT"))
		mustTake(t, p, reply, nil)
		return
	}
	raw := cleanMail("in chunks")
	cr := bytes.IndexByte(raw, '\r') + 1 // between a CR and its LF
	dots := append(bytes.Clone(raw), ".\r\n..\r\n.\r\nno end"...)
	for _, c := range []struct {
		name   string
		chunks [][]byte // the last one is LAST
	}{
		{"one chunk", [][]byte{raw}},
		{"three chunks", [][]byte{raw[:10], raw[10:200], raw[200:]}},
		{"a line end in two chunks", [][]byte{raw[:cr], raw[cr:]}},
		{"an empty last chunk", [][]byte{raw, nil}},
		{"dots, and no line end at the end", [][]byte{dots[:len(dots)-9], dots[len(dots)-9:]}},
	} {
		t.Run(c.name, func(t *testing.T) { mustTakeChunks(t, p, client, c.chunks) })
	}
	t.Run("after a recipient was refused", func(t *testing.T) { testChunksAndRefusal(t, p, client) })
	t.Run("given up", func(t *testing.T) { testChunksGivenUp(t, p, client) })
}

// mustTakeChunks sends one mail in chunks; amavisd must see it whole, once.
func mustTakeChunks(t *testing.T, p *lab.Pipeline, client *lab.Client, chunks [][]byte) {
	t.Helper()
	before := now(p)
	mustReply(t, client, "MAIL FROM:<"+sender+"> BODY=8BITMIME", 250)
	mustReply(t, client, "RCPT TO:<"+user+">", 250)
	for i, chunk := range chunks {
		last := i == len(chunks)-1
		reply, err := client.Chunk(chunk, last)
		if last {
			mustTake(t, p, reply, err)
		} else if err != nil || reply.Code != 250 {
			t.Fatalf("BDAT: reply %q, error %v", reply, err)
		}
	}
	want := bytes.Join(chunks, nil)
	if !bytes.HasSuffix(want, []byte("\r\n")) {
		want = append(want, "\r\n"...) // Postfix ends the last line
	}
	spooled := before.mustAsk(t, p, asked{sender, []string{user}})[0].Spooled
	if !bytes.HasSuffix(spooled, bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n"))) {
		t.Errorf("in the spool is\n%s\nwant\n%s", spooled, want)
	}
	d := before.mustDeliver(t, p, user)[0]
	if _, body := lab.SplitMessage(want); !bytes.Equal(d.Body(), body) {
		t.Errorf("delivered was %s", parting(d.Body(), body))
	}
}

// testChunksAndRefusal: a chunk is read and thrown away if nobody is to get it; it
// goes to those recipients that were taken.
func testChunksAndRefusal(t *testing.T, p *lab.Pipeline, client *lab.Client) {
	before := now(p)
	raw := cleanMail("refused")
	pipelined := "MAIL FROM:<" + sender + ">\r\nRCPT TO:<nobody@elsewhere.test>\r\n"
	if err := client.Write(append([]byte(pipelined), lab.BDAT(raw, true)...)); err != nil {
		t.Fatal(err)
	}
	mustReadReplies(t, client, 250, 0, 0)
	mustReply(t, client, "RSET", 250)
	before.mustAsk(t, p)
	pipelined += "RCPT TO:<" + user + ">\r\n"
	if err := client.Write(append([]byte(pipelined), lab.BDAT(raw, true)...)); err != nil {
		t.Fatal(err)
	}
	mustReadReplies(t, client, 250, 0, 250, 250)
	before.mustAsk(t, p, asked{sender, []string{user}})
	before.mustDeliver(t, p, user)
}

// testChunksGivenUp: what was sent before RSET, or before the client hung up, is
// forgotten. Postfix keeps what it has to say in a buffer while it expects no reply:
// the milter hears of RSET only with the next mail, or at the end of the session.
func testChunksGivenUp(t *testing.T, p *lab.Pipeline, client *lab.Client) {
	before := now(p)
	begin := func(subject string) {
		t.Helper()
		mustReply(t, client, "MAIL FROM:<"+sender+">", 250)
		mustReply(t, client, "RCPT TO:<"+user+">", 250)
		if reply, err := client.Chunk(cleanMail(subject), false); err != nil || reply.Code != 250 {
			t.Fatalf("BDAT: reply %q, error %v", reply, err)
		}
		mustSpool(t, p, 1)
	}
	begin("given up")
	mustReply(t, client, "RSET", 250)
	begin("given up, too")
	mustReply(t, client, "RSET", 250)
	mustTake(t, p, send(t, client, sender, []string{"next@lab.test"}, cleanMail("the next one")), nil)
	mustSpoolEmpty(t, p)
	begin("hung up")
	client.Close()
	mustSpool(t, p, 0)
	before.mustAsk(t, p, asked{sender, []string{"next@lab.test"}})
	before.mustDeliver(t, p, "next@lab.test")
}
