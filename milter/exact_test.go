package milter

import (
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// sentFields are fields as a client sends them; an MTA shows folds as LF.
var sentFields = [][2]string{
	{"X-One-Space", " value"}, {"X-No-Space", "value"}, {"X-Two-Spaces", "  value"},
	{"X-Tab", "\tvalue"}, {"X-Space-Tab", " \tvalue"}, {"X-Tab-Space", "\t value"},
	{"X-Next-Line", "\n value"}, {"X-Space-Next-Line", " \n value"}, {"X-Next-Line-Tab", "\n\tvalue"},
	{"X-Empty", ""}, {"X-Blank", " "}, {"X-Blanks", "  \t "}, {"X-Fold-Alone", "\n "},
	{"X-Folded", " one \n two\t\n\tthree"}, {"X-Trailing", " value  \t "}, {"x-cAsE", " value"},
	{"X-CR", " a\rb"}, {"X-CR-LF", " a\r\n b"}, {"X-8-Bit", " \xfc\xff \u00fc"}, {"X-Signs", " 100%s: a:b %00"},
	{"X-Long", " " + strings.Repeat("v", 32<<10)},
}

// TestHeaderValuesExact: with HDR_LEADSPC a value comes as it was sent. Without it
// the MTA eats one space where there is one, nobody knows any more whether there
// was, and most senders write one: so it is put back for all.
func TestHeaderValuesExact(t *testing.T) {
	noLeadSpc := miltertest.Postfix37
	noLeadSpc.Protocol &^= miltertest.HdrLeadSpc
	for name, c := range map[string]struct {
		offer miltertest.Offer
		want  func(value string) string
	}{
		"sendmail":  {miltertest.Sendmail817, func(v string) string { return v }},
		"postfix":   {miltertest.Postfix37, func(v string) string { return v }},
		"not given": {noLeadSpc, func(v string) string { return " " + strings.TrimPrefix(v, " ") }},
		"version 2": {miltertest.Version2, func(v string) string { return " " + strings.TrimPrefix(v, " ") }},
	} {
		t.Run(name, func(t *testing.T) {
			b := startServer(t, &testHandler{}, quickTimes())
			m := b.mta(t, c.offer)
			if err := m.Greet(); err != nil {
				t.Fatal(err)
			}
			msg := plainMessage
			msg.Header = sentFields
			a, err := m.SendMessage(msg)
			mustAnswer(t, a, err, "accept")
			var want []string
			for _, f := range sentFields {
				want = append(want, f[0]+":"+c.want(f[1]))
			}
			if got := b.handler.transaction(t, 0).header; !slices.Equal(got, want) {
				t.Errorf("header %q, want %q", got, want)
			}
		})
	}
}

// TestBodyExact: whatever the packets, the body is passed on as it came.
func TestBodyExact(t *testing.T) {
	const whole = "\r\n.\r\n..\r\na\rb\nc\r\r\n\x00\xff\r\n \t\r\n\r\n\r"
	b := startServer(t, &testHandler{}, quickTimes())
	m := b.mta(t, miltertest.Sendmail817)
	if err := m.Greet(); err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if err := m.SendUpTo(plainMessage, "body"); err != nil {
			t.Fatal(err)
		}
		for _, piece := range []string{whole[:cut], whole[cut:]} {
			if _, err := m.Body([]byte(piece)); err != nil {
				t.Fatal(err)
			}
		}
		a, err := m.EOM()
		mustAnswer(t, a, err, "accept")
		if got := b.handler.transaction(t, cut).body.String(); got != whole {
			t.Errorf("cut after %d bytes: %q, want %q", cut, got, whole)
		}
	}
}
