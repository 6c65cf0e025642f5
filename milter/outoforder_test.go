package milter

import (
	"bytes"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// noMessage is the answer to the end of what was no message.
const noMessage = "reply 451 4.5.0 Content filter protocol error, try again later"

// TestOutOfOrder: whatever a peer sends in whatever order, an end of message is
// answered with a tempfail unless there was an envelope, and the next message on
// the connection passes.
func TestOutOfOrder(t *testing.T) {
	cases := map[string]struct {
		frames string
		want   string
	}{
		"end of message alone":    {"E", noMessage},
		"body before MAIL":        {"BE", noMessage},
		"header before MAIL":      {"LNE", noMessage},
		"DATA before MAIL":        {"TE", noMessage},
		"RCPT before MAIL":        {"RTE", noMessage},
		"no recipient":            {"MTLNBE", noMessage},
		"no DATA":                 {"MRLNBE", "accept"},
		"no header":               {"MRTNBE", "accept"},
		"nothing but an envelope": {"MRE", "accept"},
		"abort in the middle":     {"MRTLNBABE", noMessage},
		"two ends":                {"MRTEE", "accept"},
		"MAIL twice":              {"MRTLMRTE", "accept"},
		"helo in the middle":      {"MRTLHE", noMessage},
		"header after body":       {"MRTBLE", noMessage},
	}
	data := map[rune]string{'M': "<a@x>\x00", 'R': "<b@y>\x00", 'L': "Subject\x00 x\x00", 'B': "body\r\n", 'H': "helo\x00"}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := startServer(t, &testHandler{}, quickTimes())
			m := b.mta(t, miltertest.Postfix37)
			if err := m.Greet(); err != nil {
				t.Fatal(err)
			}
			for _, code := range c.frames {
				if err := m.Send(byte(code), []byte(data[code])); err != nil {
					t.Fatal(err)
				}
			}
			for i := range strings.Count(c.frames, "E") {
				a, err := m.Answer()
				want := c.want
				if i > 0 {
					want = noMessage
				}
				mustAnswer(t, a, err, want)
			}
			a, err := m.SendMessage(plainMessage)
			mustAnswer(t, a, err, "accept")
			for i := range b.handler.count() {
				outcome(t, b.handler.transaction(t, i))
			}
			if strings.Contains(b.log.String(), "panic") {
				t.Errorf("log:\n%s", b.log)
			}
		})
	}
}

func TestEnvelopeLimits(t *testing.T) {
	for _, c := range []struct {
		name   string
		path   string
		counts map[int]string
	}{
		{"MaxRecipients", "<b@y>", map[int]string{MaxRecipients - 1: "accept", MaxRecipients: "accept", MaxRecipients + 1: "reply 452 4.5.3 Too many recipients"}},
		{"MaxEnvelopeBytes", "<" + strings.Repeat("x", 1<<16-2) + ">", map[int]string{MaxEnvelopeBytes>>16 - 1: "accept", MaxEnvelopeBytes >> 16: "accept", MaxEnvelopeBytes>>16 + 1: "reply 452 4.5.3 Too many recipients"}},
	} {
		for n, want := range c.counts {
			b := startServer(t, &testHandler{}, quickTimes())
			m := b.mta(t, miltertest.Postfix37)
			m.Greet()
			m.Mail("")
			var frames []byte
			for range n {
				frames = append(frames, miltertest.Frame('R', []byte(c.path+"\x00"))...)
			}
			if err := m.SendRaw(frames); err != nil {
				t.Fatal(err)
			}
			a, err := m.EOM()
			if err != nil || a.String() != want {
				t.Errorf("%s: %d recipients: %q, %v; want %q", c.name, n, a, err, want)
			}
		}
	}
}

// TestRefusalEndsWithItsMessage: what was wrong with an aborted message is not held
// against the next one.
func TestRefusalEndsWithItsMessage(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	m := b.mta(t, miltertest.Postfix37)
	m.Greet()
	m.Mail("<a@x>")
	if err := m.SendRaw(bytes.Repeat(miltertest.Frame('R', []byte("<b@y>\x00")), MaxRecipients+1)); err != nil {
		t.Fatal(err)
	}
	m.Abort()
	a, err := m.SendMessage(plainMessage)
	mustAnswer(t, a, err, "accept")
}
