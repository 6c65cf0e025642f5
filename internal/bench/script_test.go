package bench

import (
	"bytes"
	"strings"
	"testing"
)

// frames takes apart what bursts write.
func frames(t *testing.T, bursts []burst) (all [][]byte) {
	t.Helper()
	var p []byte
	for _, b := range bursts {
		p = append(p, bytes.Join(b.pieces, nil)...)
	}
	for len(p) > 0 {
		data, n, err := frame(p)
		if err != nil || n == 0 {
			t.Fatalf("%d bytes are no frame: %v", len(p), err)
		}
		all = append(all, data)
		p = p[n:]
	}
	return all
}

// TestBursts: how often an MTA writes and waits, by what was negotiated.
func TestBursts(t *testing.T) {
	t.Parallel()
	eachFrame := Sendmail
	eachFrame.EachFrame = true
	small, large := NewMail(2000), NewMail(10*bodyChunk)
	chunks := (len(large.Body) + bodyChunk - 1) / bodyChunk
	for _, c := range []struct {
		name     string
		mta      MTA
		mail     Mail
		protocol uint32
		bursts   int
		waits    int
	}{
		{"Postfix, no replies", Postfix, small, testNoReplies, 1, 1},
		{"Postfix, no replies, large", Postfix, large, testNoReplies, 1, 1},
		{"Postfix, replies", Postfix, small, 0, headerFields + 6, headerFields + 6},
		{"Postfix, replies, large", Postfix, large, 0, headerFields + 5 + chunks, headerFields + 5 + chunks},
		{"Postfix, no DATA, no header", Postfix, small, testNoData | 1<<5, 5, 5},
		{"sendmail, no replies", Sendmail, small, testNoReplies, 1, 1},
		// Macros before MAIL, RCPT and the end of the header go as frames of their own.
		{"sendmail, each frame", eachFrame, small, testNoReplies, headerFields + 6 + 2, 1},
		{"sendmail, each frame, replies", eachFrame, small, 0, headerFields + 6 + 2, headerFields + 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.HasPrefix(c.mta.Name, "sendmail") {
				c.mta.values = map[string]string{"i": queueID, "{rcpt_addr}": "user@example.org"}
				if c.mta.EachFrame {
					c.mta.macros = map[byte]string{cmdMail: "i", cmdRcpt: "{rcpt_addr}"}
				}
			}
			bursts := c.mail.dialogue(&c.mta, terms{protocol: c.protocol, macros: c.mta.macros}, &sharedBody{})
			waits := 0
			for _, b := range bursts {
				if b.event != 0 {
					waits++
				}
			}
			if len(bursts) != c.bursts || waits != c.waits {
				t.Errorf("%d bursts, %d waits; want %d, %d", len(bursts), waits, c.bursts, c.waits)
			}
			if last := bursts[len(bursts)-1].event; last != cmdEOM {
				t.Errorf("the last wait is for an answer to %q", last)
			}
		})
	}
}

// TestPostfixFrames: Postfix repeats macros before each field and each piece of the body,
// has the queue id from DATA on, and leaves the ABORT of a message to the next.
func TestPostfixFrames(t *testing.T) {
	t.Parallel()
	s := &scripted{protocol: testNoReplies, answer: atEnd(rightEnd), got: make(chan []byte, 1000)}
	l := NewLoad(newTestLoop(t), Postfix, NewMail(2000), s.listen(t))
	if err := l.Open(1); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Send(2, 1); err != nil {
		t.Fatal(err)
	}
	want := "DM" + "DR" + "DT" + strings.Repeat("DL", headerFields) + "DN" + "DB" + "DE"
	for i, want := range []string{"ODCH" + want, "A" + want} {
		got := s.until(t, 'E')
		if kinds(got) != want {
			t.Fatalf("message %d: frames %q, want %q", i+1, kinds(got), want)
		}
		for j, f := range got {
			if f[0] != 'D' {
				continue
			}
			id := []byte("i\x00" + []string{"000000000001", "000000000002"}[i] + "\x00")
			if has, early := bytes.Contains(f, id), strings.ContainsRune("CHMR", rune(f[1])); has == early {
				t.Errorf("message %d, frame %d: %q", i+1, j, f)
			}
		}
	}
}

// TestMacroLists: a milter that asks for macros gets these and no others.
func TestMacroLists(t *testing.T) {
	t.Parallel()
	s := &scripted{
		actions: 1 << 8, protocol: testNoReplies, answer: atEnd(rightEnd), got: make(chan []byte, 1000),
		lists: []byte("\x00\x00\x00\x00j,{client_name}\x00" + "\x00\x00\x00\x02{mail_addr} {auth_type}\x00" + "\x00\x00\x00\x03\x00" + "\x00\x00\x00\x05i\x00"),
	}
	l := NewLoad(newTestLoop(t), Sendmail, NewMail(2000), s.listen(t))
	if err := l.Open(1); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Send(1, 1); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range s.until(t, 'E') {
		if f[0] == 'D' {
			got = append(got, string(f[1:]))
		}
	}
	want := []string{
		"Cj\x00mx.example.org\x00{client_name}\x00client.example.net\x00",
		"M{mail_addr}\x00sender@example.net\x00",
		"Ei\x00000000000001\x00",
	}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("macros %q, want %q", got, want)
	}
}

// TestMailReachesTheMilter: the frames of a message hold all of it, with the space behind
// the colon or without as was negotiated.
func TestMailReachesTheMilter(t *testing.T) {
	t.Parallel()
	for _, size := range []int{2000, 4096, bodyChunk + 5000, 3 * bodyChunk} {
		for _, protocol := range []uint32{0, testLeadSpc, testNoReplies | testLeadSpc} {
			m := NewMail(size)
			var file, body []byte
			for _, f := range frames(t, m.dialogue(&Postfix, terms{protocol: protocol, macros: Postfix.macros}, &sharedBody{})) {
				switch f[0] {
				case 'L':
					name, value, _ := strings.Cut(string(f[1:len(f)-1]), "\x00")
					if protocol&testLeadSpc == 0 {
						value = " " + value
					}
					file = append(file, name+":"+value+"\n"...)
				case 'B':
					body = append(body, f[1:]...)
				}
			}
			file = append(append(file, '\n'), bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))...)
			if !bytes.Equal(file, m.file()) || !bytes.Equal(body, m.Body) {
				t.Errorf("of %d bytes, protocol %#x: %d arrive, want %d", size, protocol, len(file), len(m.file()))
			}
		}
	}
}

// TestNewMail: mails have the size that was asked for, give or take the line ends, and end
// with one.
func TestNewMail(t *testing.T) {
	t.Parallel()
	for _, size := range []int{smallMail, 5000, 100000} {
		m := NewMail(size)
		n := len(m.Body)
		for _, h := range m.Header {
			n += len(h[0]) + len(h[1]) + 2
		}
		if n < size-2 || n > size+2 || len(m.Header) != headerFields || !bytes.HasSuffix(m.Body, []byte("\r\n")) {
			t.Errorf("of %d bytes: %d, %d fields, it ends with %q", size, n, len(m.Header), m.Body[len(m.Body)-2:])
		}
		if bare := bytes.ReplaceAll(m.Body, []byte("\r\n"), nil); bytes.ContainsAny(bare, "\r\n\xff") {
			t.Errorf("of %d bytes: a CR or LF alone", size)
		}
	}
}
