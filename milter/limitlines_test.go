package milter

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// Limits that a peer can go beyond at will are one line a minute, not one for each
// message; other changes that cannot be sent are told each time.
func TestLimitLinesOfTheMTA(t *testing.T) {
	const messages = 3
	for name, c := range map[string]struct {
		verdict    Verdict
		recipients int
		line       string
		lines      int
	}{
		"MaxRecipients":  {Accept(), MaxRecipients + 1, "message refused before it was scanned", 1},
		"MaxHeaderField": {Accept(AddHeader{"X", strings.Repeat("v", MaxHeaderField)}), 1, "a change could not be sent", 1},
		"no path":        {Accept(AddRecipient{NewPath("<a\nb>")}), 1, "a change could not be sent", messages},
	} {
		h := &testHandler{verdict: func(context.Context) Verdict { return c.verdict }}
		b := startServer(t, h, quickTimes())
		m := b.mta(t, miltertest.Postfix37)
		m.Greet()
		for range messages {
			m.Mail("<a@x>")
			if err := m.SendRaw(bytes.Repeat(miltertest.Frame('R', []byte("<b@y>\x00")), c.recipients)); err != nil {
				t.Fatal(err)
			}
			if a, err := m.EOM(); err != nil || a.Code != 'y' {
				t.Errorf("%s: %q, %v", name, a, err)
			}
		}
		if n := strings.Count(b.log.String(), c.line); n != c.lines {
			t.Errorf("%s: %d lines for %d messages: %s", name, n, messages, b.log)
		}
		if first := strings.Contains(b.log.String(), "cases=1"); first != (c.lines == 1) {
			t.Errorf("%s: %s", name, b.log)
		}
	}
}
