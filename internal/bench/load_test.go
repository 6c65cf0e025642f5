package bench

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// TestLoad: what a milter may do, and what is counted of it.
func TestLoad(t *testing.T) {
	t.Parallel()
	const messages = 3
	waitsForAll := 3 + headerFields + 3 // MAIL, RCPT, DATA; fields; end of header, body, end
	spaced := packets("h"+Told[0][0]+"\x00 "+Told[0][1]+"\x00", "h"+Told[1][0]+"\x00 "+Told[1][1]+"\x00", "c")
	for _, c := range []struct {
		name     string
		milter   scripted
		waits    int    // of each message
		wrong    int    // of all
		mustSay  string // in the errors
		messages int    // that were answered, if not all
	}{
		{"no replies", scripted{protocol: testNoReplies, answer: atEnd(rightEnd)}, 1, 0, "", messages},
		{"replies to all", scripted{answer: always}, waitsForAll, 0, "", messages},
		{"replies to all but DATA, which it does not want", scripted{protocol: testNoData, answer: always}, waitsForAll - 1, 0, "", messages},
		{"no reply to header fields", scripted{protocol: 1 << 7, answer: always2(rightEnd, 'L')}, waitsForAll - headerFields, 0, "", messages},
		{"byte by byte", scripted{answer: always, bytewise: true}, waitsForAll, 0, "", messages},
		{"accept", scripted{protocol: testNoReplies, answer: atEnd(packets(edit1, edit2, "a"))}, 1, 0, "", messages},
		{"progress", scripted{protocol: testNoReplies, answer: atEnd(packets("p", "p", edit1, "p", edit2, "c"))}, 1, 0, "", messages},
		{"its own mark", scripted{protocol: testNoReplies, answer: atEnd(packets(edit1, edit2, "hX-Virus-Scanned\x00by us\x00", "c"))}, 1, 0, "", messages},
		{"marks removed", scripted{protocol: testNoReplies, answer: atEnd(packets("m\x00\x00\x00\x01X-Amavis-Milter-Unscanned\x00\x00", edit1, edit2, "c"))}, 1, 0, "", messages},
		{"inserted at the end", scripted{protocol: testNoReplies, answer: atEnd(packets("i\x7f\xff\xff\xff"+edit1[1:], edit2, "c"))}, 1, 0, "", messages},
		{"leading spaces", scripted{protocol: testNoReplies | testLeadSpc, answer: atEnd(spaced)}, 1, 0, "", messages},

		{"no leading spaces", scripted{protocol: testNoReplies | testLeadSpc, answer: atEnd(rightEnd)}, 0, messages, "lacks its leading space", 0},
		{"spaces that nobody asked for", scripted{protocol: testNoReplies, answer: atEnd(spaced)}, 0, messages, "nobody told", 0},
		{"inserted elsewhere", scripted{protocol: testNoReplies, answer: atEnd(packets("i\x00\x00\x00\x01"+edit1[1:], edit2, "c"))}, 0, messages, "nobody told", 0},
		{"an edit missing", scripted{protocol: testNoReplies, answer: atEnd(packets(edit1, "c"))}, 1, messages, "3 × an edit is missing", messages},
		{"edits in another order", scripted{protocol: testNoReplies, answer: atEnd(packets(edit2, edit1, "c"))}, 0, messages, "nobody told", 0},
		{"an edit twice", scripted{protocol: testNoReplies, answer: atEnd(packets(edit1, edit1, edit2, "c"))}, 0, messages, "nobody told", 0},
		{"another value", scripted{protocol: testNoReplies, answer: atEnd(packets("hX-Spam-Score\x00-1.903\x00", edit2, "c"))}, 0, messages, "nobody told", 0},
		{"an edit without its end", scripted{protocol: testNoReplies, answer: atEnd(packets("hX-Spam-Score\x00-1.902", edit2, "c"))}, 0, messages, "malformed", 0},
		{"tempfail", scripted{protocol: testNoReplies, answer: atEnd(packets("t"))}, 1, messages, "3 × verdict t", messages},
		{"a reply", scripted{protocol: testNoReplies, answer: atEnd(packets("y451 4.3.0 No\x00"))}, 1, messages, "3 × verdict 451 4.3.0 No", messages},
		{"discard", scripted{protocol: testNoReplies, answer: atEnd(packets("d"))}, 1, messages, "verdict d", messages},
		{"hangs up", scripted{protocol: testNoReplies, answer: atEnd([]byte{})}, 0, messages, "hung up", 0},
		{"rejects in mid-message", scripted{answer: rejectAt('R')}, 0, messages, "before the end of a message: answer r", 0},
		{"a frame of no bytes", scripted{protocol: testNoReplies, answer: atEnd([]byte{0, 0, 0, 0})}, 0, messages, "frame of 0 bytes", 0},
		{"a huge frame", scripted{protocol: testNoReplies, answer: atEnd([]byte{0x7f, 0, 0, 0, 'c'})}, 0, messages, "frame of", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := NewLoad(newTestLoop(t), Postfix, NewMail(2000), c.milter.listen(t))
			if err := l.Open(2); err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			// One after the other: a connection that broke has been replaced by then.
			for range messages {
				if err := l.Send(1, 1); err != nil {
					t.Fatal(err)
				}
				if err := l.Open(2); err != nil {
					t.Fatal(err)
				}
			}
			got, _ := l.Counts(nil)
			if got.Messages != c.messages || got.Wrong != c.wrong || got.Waits != c.waits*c.messages {
				t.Errorf("%d messages, %d wrong, %d waits; want %d, %d, %d (%v)", got.Messages, got.Wrong, got.Waits, c.messages, c.wrong, c.waits*c.messages, l.Err())
			}
			if err := fmt.Sprint(l.Err()); (l.Err() != nil) != (c.mustSay != "") || !strings.Contains(err, c.mustSay) {
				t.Errorf("errors %q, want %q", err, c.mustSay)
			}
		})
	}
}

// always2 is always, but with no answer to one kind of event.
func always2(end []byte, but byte) func(byte, []byte) []byte {
	return func(event byte, _ []byte) []byte {
		switch event {
		case but:
			return nil
		case 'E':
			return end
		}
		return packets("c")
	}
}

func rejectAt(at byte) func(byte, []byte) []byte {
	return func(event byte, _ []byte) []byte {
		if event == at {
			return packets("r")
		}
		return packets("c")
	}
}

// TestLoadNegotiation: what a milter may not ask for.
func TestLoadNegotiation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		milter scripted
		say    string
	}{
		{"an action that is not offered", scripted{actions: 1 << 20}, "more was asked for"},
		{"a bit that is not offered", scripted{protocol: 1 << 25}, "more was asked for"},
		{"a list of macros for no stage", scripted{actions: 1 << 8, lists: []byte("\x00\x00\x00\x09i\x00")}, "cannot be"},
		{"a list of macros without its end", scripted{actions: 1 << 8, lists: []byte("\x00\x00\x00\x02i")}, "cannot be"},
		{"a list of macros, not negotiated", scripted{lists: []byte("\x00\x00\x00\x02i\x00")}, "cannot be"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.milter.answer = always
			l := NewLoad(newTestLoop(t), Postfix, NewMail(2000), c.milter.listen(t))
			if err := l.Open(1); err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := fmt.Sprint(l.Err()); !strings.Contains(err, c.say) {
				t.Errorf("errors %q, want %q", err, c.say)
			}
		})
	}
}

// TestLoadSkip: after SKIP no more of the body is sent, and nothing else is left out.
func TestLoadSkip(t *testing.T) {
	t.Parallel()
	s := &scripted{got: make(chan []byte, 1000), answer: func(event byte, data []byte) []byte {
		if event == 'B' {
			return packets("s")
		}
		return always(event, data)
	}}
	l := NewLoad(newTestLoop(t), Sendmail, NewMail(5*bodyChunk), s.listen(t))
	if err := l.Open(1); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Send(1, 1); err != nil {
		t.Fatal(err)
	}
	want := "OCH" + "DM" + "DR" + "T" + strings.Repeat("L", headerFields) + "N" + "B" + "DE"
	if got := strings.Replace(kinds(s.until(t, 'E')), "DC", "C", 1); got != want {
		t.Errorf("frames %q, want %q", got, want)
	}
	if err := l.Err(); err != nil {
		t.Error(err)
	}
}

// TestLoadKeepsSending: Start sends until Stop, and connections are replaced as often as
// was asked for.
func TestLoadKeepsSending(t *testing.T) {
	t.Parallel()
	s := &scripted{protocol: testNoReplies, answer: atEnd(rightEnd)}
	l := NewLoad(newTestLoop(t), Postfix, NewMail(2000), s.listen(t))
	l.PerConn = 2
	if err := l.Open(3); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Start()
	const enough = 50
	if err := poll(waitLimit, func() error {
		if c, _ := l.Counts(nil); c.Messages < enough {
			return fmt.Errorf("%d messages", c.Messages)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := l.Stop(); err != nil {
		t.Fatal(err)
	}
	before, _ := l.Counts(nil)
	if n := len(l.Latencies()); n != before.Messages || before.Waits != n || before.Wrong != 0 || l.Err() != nil {
		t.Errorf("%d messages, %d times, %d waits, %d wrong, errors %v", before.Messages, n, before.Waits, before.Wrong, l.Err())
	}
	if after, _ := l.Counts(nil); after.Messages != before.Messages {
		t.Errorf("%d messages after the stop", after.Messages-before.Messages)
	}
}

// TestLoadLargeMail: of a mail that no socket holds all arrives, in its order, and so does
// the next one on the connection.
func TestLoadLargeMail(t *testing.T) {
	t.Parallel()
	mail := NewMail(3 << 20)
	var body []byte
	arrived := make(chan []byte, 2)
	s := &scripted{protocol: testNoReplies, answer: func(event byte, data []byte) []byte {
		switch event {
		case 'B':
			body = append(body, data...)
		case 'E':
			arrived <- body
			body = nil
			return rightEnd
		}
		return nil
	}}
	l := NewLoad(newTestLoop(t), Postfix, mail, s.listen(t))
	if err := l.Open(1); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Send(2, 1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := <-arrived; !bytes.Equal(got, mail.Body) {
			t.Errorf("%d bytes arrived, not the %d that were to be sent", len(got), len(mail.Body))
		}
	}
	if err := l.Err(); err != nil {
		t.Error(err)
	}
}

// TestLoadAtOnce: no more messages are under way at once than was asked for, and all
// connections have their turn.
func TestLoadAtOnce(t *testing.T) {
	t.Parallel()
	const conns, atOnce = 6, 2
	var mu sync.Mutex
	under, most := 0, 0
	s := &scripted{answer: func(event byte, data []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		switch event {
		case 'M':
			under++
			most = max(most, under)
		case 'E':
			under--
		}
		return always(event, data)
	}}
	l := NewLoad(newTestLoop(t), Postfix, NewMail(2000), s.listen(t))
	if err := l.Open(conns); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Send(2*conns, atOnce); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if most != atOnce {
		t.Errorf("%d were under way at once, want %d", most, atOnce)
	}
	l.loop.Do(func() {
		// One that is busy when it is its turn is passed over.
		all := 0
		for i, c := range l.conns {
			all += c.sent
			if c.sent == 0 {
				t.Errorf("connection %d had no message", i)
			}
		}
		if all != 2*conns {
			t.Errorf("%d messages, want %d", all, 2*conns)
		}
	})
}

// TestLoadFill: each connection has one message, and as many are open at the end as were
// asked for.
func TestLoadFill(t *testing.T) {
	t.Parallel()
	const conns = 50
	s := &scripted{protocol: testNoReplies, answer: atEnd(rightEnd)}
	l := NewLoad(newTestLoop(t), Postfix, NewMail(2000), s.listen(t))
	defer l.Close()
	if err := l.Fill(conns, 4); err != nil {
		t.Fatal(err)
	}
	l.loop.Do(func() {
		for i, c := range l.conns {
			if c.sent != 1 || c.fd < 0 {
				t.Errorf("connection %d had %d messages, descriptor %d", i, c.sent, c.fd)
			}
		}
		if len(l.conns) != conns {
			t.Errorf("%d connections, want %d", len(l.conns), conns)
		}
	})
	if c, _ := l.Counts(nil); c.Messages != conns || l.Err() != nil {
		t.Errorf("%d messages, errors %v", c.Messages, l.Err())
	}
}
