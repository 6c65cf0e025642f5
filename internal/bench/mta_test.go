package bench

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// ms makes a time of a number of milliseconds.
func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// rounds makes rounds of one message each with these times of the end of the message.
func rounds(ends ...int) (r []MTARound) {
	for _, end := range ends {
		r = append(r, MTARound{
			Sessions: []time.Duration{ms(end + 20)}, Transactions: []time.Duration{ms(end + 10)}, Ends: []time.Duration{ms(end)},
		})
	}
	return r
}

// TestMTARows: what a program adds is the difference at the same quantile, with the least
// and the most of any round.
func TestMTARows(t *testing.T) {
	all := []*MTASeries{
		{MTA: "Postfix", Program: noMilter, Kept: true, Rounds: rounds(1, 2, 4)},
		{MTA: "Postfix", Program: floorMilter, Kept: true, Rounds: rounds(2, 3, 5)},
		{MTA: "Postfix", Program: ours, Kept: true, Rounds: rounds(3, 5, 5)},
		{MTA: "Postfix", Program: theirs, Kept: true, Rounds: rounds(11, 22, 44)},
		{MTA: "Postfix", Program: noMilter, Rounds: rounds(1)},
		{MTA: "Postfix", Program: floorMilter, Rounds: rounds(2)},
		{MTA: "Postfix", Program: ours, Rounds: rounds(2)},
		{MTA: "Postfix", Program: theirs, Rounds: rounds(5)},
		{MTA: "sendmail", Program: noMilter, Kept: true, Rounds: rounds(1)},
	}
	text := mtaMarkdown(mtaRows(all))
	want := `| MTA     | connection | time, ms       |     | without a milter | + doing nothing | + ours           | + amavisd-milter    | ours / amavisd-milter |
|---------|-----------:|---------------:|----:|-----------------:|----------------:|-----------------:|--------------------:|----------------------:|
| Postfix | kept       | end of message | p50 | 2.00             | 1.00            | 3.00 (1.00–3.00) | 20.00 (10.00–40.00) | 0.15x                 |
| Postfix | kept       | end of message | p99 | 4.00             | 1.00            | 1.00 (1.00–3.00) | 40.00 (10.00–40.00) | 0.03x                 |
| Postfix | kept       | MAIL to 250    | p50 | 12.00            | 1.00            | 3.00 (1.00–3.00) | 20.00 (10.00–40.00) | 0.15x                 |
| Postfix | kept       | MAIL to 250    | p99 | 14.00            | 1.00            | 1.00 (1.00–3.00) | 40.00 (10.00–40.00) | 0.03x                 |
| Postfix | new        | end of message | p50 | 1.00             | 1.00            | 1.00 (1.00–1.00) | 4.00 (4.00–4.00)    | 0.25x                 |
| Postfix | new        | end of message | p99 | 1.00             | 1.00            | 1.00 (1.00–1.00) | 4.00 (4.00–4.00)    | 0.25x                 |
| Postfix | new        | MAIL to 250    | p50 | 11.00            | 1.00            | 1.00 (1.00–1.00) | 4.00 (4.00–4.00)    | 0.25x                 |
| Postfix | new        | MAIL to 250    | p99 | 11.00            | 1.00            | 1.00 (1.00–1.00) | 4.00 (4.00–4.00)    | 0.25x                 |
| Postfix | new        | connect to 250 | p50 | 21.00            | 1.00            | 1.00 (1.00–1.00) | 4.00 (4.00–4.00)    | 0.25x                 |
| Postfix | new        | connect to 250 | p99 | 21.00            | 1.00            | 1.00 (1.00–1.00) | 4.00 (4.00–4.00)    | 0.25x                 |
`
	if text != want {
		t.Errorf("the table is\n%s\nwant\n%s", text, want)
	}
}

// TestMTARatio: there is none where one of the programs seems to add nothing, in all or in
// one of the rounds.
func TestMTARatio(t *testing.T) {
	for _, c := range []struct {
		ours, theirs, oursLow, theirsLow int
		want                             string
	}{
		{1, 4, 1, 3, "0.25x"}, {4, 1, 3, 1, "4.00x"}, {0, 4, 1, 1, "-"}, {-1, 4, 1, 1, "-"}, {1, 0, 1, 1, "-"}, {1, -4, 1, 1, "-"},
		{1, 4, 0, 1, "-"}, {1, 4, -1, 1, "-"}, {1, 4, 1, 0, "-"}, {1, 4, 1, -4, "-"},
	} {
		row := MTARow{Ours: ms(c.ours), Theirs: ms(c.theirs), OursLow: ms(c.oursLow), TheirsLow: ms(c.theirsLow)}
		if got := row.ratio(); got != c.want {
			t.Errorf("%d to %d, at the least %d and %d, is %s, want %s", c.ours, c.theirs, c.oursLow, c.theirsLow, got, c.want)
		}
	}
}

// smtpServer answers the lines of a client, one after the other, with these replies, on
// every connection; nothing is read behind the last one.
func smtpServer(t *testing.T, replies ...string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(conn)
			for i, reply := range replies {
				if i > 0 {
					in.ReadString('\n')
				}
				fmt.Fprint(conn, reply)
				if strings.HasPrefix(reply, "354") {
					for line := ""; line != ".\r\n" && err == nil; line, err = in.ReadString('\n') {
					}
					in = bufio.NewReader(strings.NewReader(""))
				}
			}
			conn.Close()
		}
	}()
	return listener.Addr().String()
}

// TestSMTPClient: only a reply with the code that is due counts, and only on a connection
// that is new there is a time from the connect on.
func TestSMTPClient(t *testing.T) {
	mail := NewMail(100).smtp()
	good := []string{"220-mx\r\n220 mx\r\n", "250-mx\r\n250 SIZE 0\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n", "250 taken\r\n"}
	c, err := dialSMTP(smtpServer(t, good...))
	if err != nil {
		t.Fatal(err)
	}
	times, err := c.send(mail)
	if err != nil {
		t.Fatal(err)
	}
	if times.end <= 0 || times.transaction <= times.end || times.session <= times.transaction {
		t.Errorf("the times are %+v", times)
	}
	if !c.began.IsZero() {
		t.Error("the connection is still new")
	}
	if _, err := c.send(mail); err == nil {
		t.Error("a message was accepted on a connection that was closed")
	}
	for i, bad := range []string{"554 no\r\n", "550 no\r\n", "451 later\r\n", "252 perhaps\r\n", "250 what?\r\n", "451 scanner\r\n"} {
		replies := append([]string(nil), good...)
		replies[i] = bad
		c, err := dialSMTP(smtpServer(t, replies...))
		if err == nil {
			_, err = c.send(mail)
		}
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(bad)) {
			t.Errorf("with the reply %q the error is %v", bad, err)
		}
	}
}

// TestSMTPMail: what the client sends is the mail, with SMTP's line ends and dots.
func TestSMTPMail(t *testing.T) {
	m := Mail{Header: [][2]string{{"A", " b\n\tc"}, {"D", "e"}}, Body: []byte(".dot\r\ntext\r\n")}
	if got, want := string(m.smtp()), "A: b\r\n\tc\r\nD:e\r\n\r\n..dot\r\ntext\r\n.\r\n"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}

// TestMTAFailures: what was not accepted counts as failed and has no times, and nothing is
// lost of what was.
func TestMTAFailures(t *testing.T) {
	mail := NewMail(100).smtp()
	whole := []string{"220 mx\r\n", "250 mx\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n", "250 taken\r\n", "221 bye\r\n"}
	refused := append(append([]string(nil), whole[:5]...), "451 scanner\r\n")
	noGoodbye := append(append([]string(nil), whole[:6]...), "421 no\r\n")
	for _, c := range []struct {
		name             string
		replies          []string
		kept             bool
		messages         int
		accepted, failed int
	}{
		{"one", whole, false, 1, 1, 0},
		{"one on a connection that is kept", whole, true, 1, 1, 0},
		{"the second of three", whole[:6], true, 3, 1, 2},
		{"refused", refused, false, 1, 0, 1},
		{"no connection", []string{"554 no\r\n"}, true, 3, 0, 3},
		{"accepted, then trouble", noGoodbye, false, 1, 1, 1},
	} {
		s := &MTASeries{Kept: c.kept}
		var round MTARound
		accepted := s.connection(smtpServer(t, c.replies...), mail, c.messages, &round)
		if accepted != c.accepted || s.Failed != c.failed || (s.Failure == "") != (c.failed == 0) {
			t.Errorf("%s: %d accepted, %d failed (%s); want %d and %d", c.name, accepted, s.Failed, s.Failure, c.accepted, c.failed)
		}
		sessions := c.accepted
		if c.kept {
			sessions = 0
		}
		if len(round.Ends) != c.accepted || len(round.Transactions) != c.accepted || len(round.Sessions) != sessions {
			t.Errorf("%s: %d, %d and %d times", c.name, len(round.Ends), len(round.Transactions), len(round.Sessions))
		}
	}
}

// TestMTASection: messages of ours that failed are told, and no goal is met with them.
func TestMTASection(t *testing.T) {
	s := mtaSection([]*MTASeries{
		{MTA: "Postfix", Program: ours, Failed: 2, Failure: "451 later"},
		{MTA: "Postfix", Program: theirs, Failed: 1, Failure: "452 full"},
	})
	if !strings.Contains(s.Text, "ours: 2 messages FAILED, the first: 451 later") || !strings.Contains(s.Text, "theirs: 1 messages FAILED") || len(s.Unmet) != 1 {
		t.Errorf("the section is %q, unmet %q", s.Text, s.Unmet)
	}
}

// TestMTAStage: only the arguments that the step itself gives ask for the process in the
// lab.
func TestMTAStage(t *testing.T) {
	for _, args := range [][]string{nil, {mtaStage}, {"-case", "mta"}, {"x", "tree", "binary", planFull}} {
		if _, asked := MTAStage(args); asked {
			t.Errorf("%q asks for it", args)
		}
	}
}
