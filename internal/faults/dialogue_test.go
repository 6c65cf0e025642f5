package faults

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// frame is one of the MTA's, by a name for the table.
type frame struct {
	name string
	raw  []byte // with its length
}

func (f frame) code() byte { return f.raw[4] }

// noReply tells which answers the milter may have asked to be spared of.
var noReply = map[byte]uint32{
	'C': miltertest.NRConnect, 'H': miltertest.NRHelo, 'M': miltertest.NRMail, 'R': miltertest.NRRcpt, 'T': miltertest.NRData,
	'L': miltertest.NRHeader, 'N': miltertest.NREOH, 'B': miltertest.NRBody,
}

// dialogue returns all frames of one connection with one message, from the negotiation
// to the end of the message. The message has fields that amavisd's edits (see good)
// and our own are about.
func dialogue(o miltertest.Offer, queueID string) []frame {
	var offer []byte
	for _, v := range []uint32{o.Version, o.Actions, o.Protocol} {
		offer = binary.BigEndian.AppendUint32(offer, v)
	}
	macros := func(command string, kv ...string) string { return command + zeros(kv...) }
	frames := []frame{
		{"OPTNEG", miltertest.Frame('O', offer)},
		named("connect macros", 'D', macros("C", "j", "mx.example.org", "{client_name}", "client.example.net", "{client_addr}", "192.0.2.1")),
		named("CONNECT", 'C', "client.example.net\x004\x9c\x40192.0.2.1\x00"),
		named("HELO", 'H', zeros("helo.example.net")),
	}
	return append(frames, message(o, queueID)...)
}

// message returns the frames of one message.
func message(o miltertest.Offer, queueID string) []frame {
	frames := []frame{
		named("mail macros", 'D', "M"+zeros("i", queueID)),
		named("MAIL", 'M', zeros("<ann@example.com>")),
		named("RCPT", 'R', zeros("<bob@example.net>")),
		named("RCPT 2", 'R', zeros("<dan@example.net>")),
	}
	if o.Version >= 4 {
		frames = append(frames, named("DATA", 'T', ""))
	}
	for i, h := range [][2]string{{"Subject", "x"}, {"X-Spam-Flag", "YES"}, {"X-Virus-Scanned", "forged"}, {"X-Amavis-Milter-Unscanned", "forged"}} {
		value := h[1]
		if o.Protocol&miltertest.HdrLeadSpc != 0 {
			value = " " + value
		}
		name := "header"
		if i > 0 {
			name = fmt.Sprint("header ", i+1)
		}
		frames = append(frames, named(name, 'L', zeros(h[0], value)))
	}
	return append(frames,
		named("EOH", 'N', ""),
		named("body", 'B', "first\r\n"), named("body 2", 'B', "second\r"), named("body 3", 'B', "\nthird\r\n"),
		named("eom macros", 'D', "E"+zeros("i", queueID)),
		named("EOM", 'E', ""))
}

func named(name string, code byte, data string) frame {
	return frame{name, miltertest.Frame(code, []byte(data))}
}

func zeros(list ...string) string {
	s := ""
	for _, v := range list {
		s += v + "\x00"
	}
	return s
}

// play sends frames and takes the answers that come in between; that to an end of
// message it leaves to be read.
func play(m *miltertest.MTA, frames []frame) error {
	for _, f := range frames {
		if err := m.SendRaw(f.raw); err != nil {
			return fmt.Errorf("sending %s: %w", f.name, err)
		}
		if err := takeAnswer(m, f); err != nil {
			return fmt.Errorf("after %s: %w", f.name, err)
		}
	}
	return nil
}

// open connects and sends a whole message; the verdict is to be read.
func (d *daemon) open(o miltertest.Offer) (*miltertest.MTA, error) {
	m, err := d.dial()
	if err != nil {
		return nil, err
	}
	return m, play(m, dialogue(o, d.queueID()))
}

// takeAnswer takes the answer to a frame, if there is one and it is no verdict.
func takeAnswer(m *miltertest.MTA, f frame) error {
	if f.code() == 'O' {
		code, data, err := m.Receive()
		if err == nil && (code != 'O' || len(data) < 12) {
			err = fmt.Errorf("answer %q of %d bytes to the negotiation", code, len(data))
		}
		if err == nil {
			m.Version, m.Protocol = binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[8:])
		}
		return err
	}
	if bit, ok := noReply[f.code()]; !ok || m.Protocol&bit != 0 {
		return nil
	}
	return wantVerdict(m, "continue")
}

// wantVerdict reads an answer, which must be this one, with these changes before it
// (miltertest.Answer.String).
func wantVerdict(m *miltertest.MTA, want string) error {
	a, err := m.Answer()
	if err != nil {
		return fmt.Errorf("no verdict: %w, after changes %q", err, a.Changes)
	}
	if a.String() != want {
		return fmt.Errorf("the verdict is\n%s\nwant\n%s", a, want)
	}
	return nil
}

// wantClosed wants the program to hang up without another word.
func wantClosed(m *miltertest.MTA) error {
	code, data, err := m.Receive()
	for err == nil && code == 'p' { // progress: the machine is slow
		code, data, err = m.Receive()
	}
	if err == nil {
		return fmt.Errorf("got %q with %d bytes where the connection should end", code, len(data))
	}
	if e, ok := err.(net.Error); ok && e.Timeout() {
		return fmt.Errorf("the connection stays open: %w", err)
	}
	return nil
}

// good is a scanner's answer with every kind of edit, and goodVerdict what the MTA is
// told then about a message of dialogue.
var (
	goodLines = []string{
		"version_server=2",
		"log_id=01234-01",
		ampdptest.Line("setreply", "250", "2.6.0", "Ok, id=01234-01, continue delivery"),
		"delrcpt=<dan@example.net>",
		"addrcpt=<eve@example.org>",
		"delheader=1 X-Spam-Flag",
		ampdptest.Line("chgheader", "1", "Subject", "***SPAM*** x"),
		ampdptest.Line("insheader", "0", "X-Spam-Level", "***"),
		ampdptest.Line("addheader", "X-Spam-Score", "6.6"),
		"return_value=continue",
		"exit_code=0",
	}
	goodReply = ampdptest.Lines(goodLines...)
	good      = ampdptest.Raw(goodReply)
)

const goodVerdict = `delrcpt "<dan@example.net>"
addrcpt "<eve@example.org>"
chgheader 1 "X-Spam-Flag" ""
chgheader 1 "Subject" " ***SPAM*** x"
insheader 0 "X-Spam-Level" " ***"
addheader "X-Spam-Score" " 6.6"
chgheader 1 "X-Amavis-Milter-Unscanned" ""
chgheader 1 "X-Virus-Scanned" " by amavis-milter"
accept`

// goodFor is goodVerdict in the words of a connection: the MTA or the milter adds the
// space behind the colon of a header field.
func goodFor(m *miltertest.MTA) string {
	if m.Protocol&miltertest.HdrLeadSpc != 0 {
		return goodVerdict
	}
	return strings.ReplaceAll(goodVerdict, `" " `, `" "`)
}

// storedMail is what a scanner finds in the mail file of a message of dialogue, behind
// the Received field.
const storedMail = "Subject: x\nX-Spam-Flag: YES\nX-Virus-Scanned: forged\nX-Amavis-Milter-Unscanned: forged\n\nfirst\nsecond\nthird\n"

// goodIfWhole is good for a request in order about a mail file with all of the message
// in it and nothing else; otherwise it rejects the message and says why.
func goodIfWhole(c *ampdptest.Conn) {
	request, err := c.ReadRequest()
	if err != nil {
		return
	}
	c.Unread(request)
	if err := checkRequest(request); err != nil {
		ampdptest.Verdict("reject", "554", "5.0.0", err.Error())(c)
		return
	}
	good(c)
}

func checkRequest(r *ampdptest.Request) error {
	if len(r.Complaints)+len(r.Invalid) > 0 {
		return fmt.Errorf("request: %q, invalid %q", r.Complaints, r.Invalid)
	}
	mail, err := os.ReadFile(r.Get("mail_file"))
	if err != nil {
		return err
	}
	_, content, _ := strings.Cut(string(mail), "Subject:")
	if !strings.HasPrefix(string(mail), "Received: ") || "Subject:"+content != storedMail {
		return fmt.Errorf("the mail file holds %q", mail)
	}
	return nil
}

// check is what comes after each case: the next message passes as it should, over
// this connection, which is closed then, or over a new one if it is nil; and nothing
// is left.
func (d *daemon) check(m *miltertest.MTA) error {
	d.scanner.Handle(goodIfWhole)
	var frames []frame
	if m != nil {
		frames = message(miltertest.Offer{Version: m.Version, Protocol: m.Protocol}, d.queueID())
	} else {
		var err error
		if m, err = d.dial(); err != nil {
			return fmt.Errorf("the next connection: %w", err)
		}
		frames = dialogue(miltertest.Sendmail817, d.queueID())
	}
	defer m.Conn.Close()
	if err := play(m, frames); err != nil {
		return fmt.Errorf("the next message: %w", err)
	}
	if err := wantVerdict(m, goodFor(m)); err != nil {
		return fmt.Errorf("the next message: %w", err)
	}
	// Who may not count descriptors knows by this that the connection has ended.
	if err := errors.Join(m.Send('Q', nil), wantClosed(m)); err != nil {
		return fmt.Errorf("after the next message: %w", err)
	}
	m.Conn.Close()
	return d.settle(0)
}
