package bench

import (
	"errors"
	"strings"
	"testing"
)

// TestOtherCases: each combination is there once and by a name of its own, and the form of
// sendmail that writes is the one that says so.
func TestOtherCases(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{Postfix.Name + "; unix; memory": true, Postfix.Name + "; unix; disk": true}
	quick := otherCases(true)
	for _, c := range quick {
		if seen[c.name()] || c.Conns != usualConns || c.Size != smallMail {
			t.Errorf("%q: a second time, or %d connections, %d bytes", c.name(), c.Conns, c.Size)
		}
		seen[c.name()] = true
		if got, want := c.MTA.EachFrame, strings.Contains(c.name(), "as it writes"); got != want {
			t.Errorf("%q: writes each frame: %t", c.name(), got)
		}
	}
	for _, mta := range []MTA{Postfix, SendmailAsItWrites, SendmailGathered} {
		for _, place := range []string{"unix; memory", "unix; disk", "tcp; memory", "tcp; disk"} {
			if name := mta.Name + "; " + place; !seen[name] {
				t.Errorf("there is no %q", name)
			}
		}
	}
	var more []string
	for _, c := range otherCases(false)[len(quick):] {
		more = append(more, c.name())
	}
	if got, want := strings.Join(more, ", "), "sendmail, as it writes; unix; memory; C=1, sendmail, as it writes; unix; memory; C=64, sendmail, as it writes; unix; memory; C=256, "+
		"sendmail, as it writes; tcp; memory; C=1; 1 ms RTT, sendmail, as it writes; unix; memory; C=4; 10 MB"; got != want {
		t.Errorf("a full run has %q, want %q", got, want)
	}
}

// TestSeen: what the table of a case's times says, and what was wrong in it.
func TestSeen(t *testing.T) {
	t.Parallel()
	m := &measured{reasons: [2]error{nil, errors.New("3 × verdict t")}}
	for i := range 2 {
		f := float64(i + 1)
		m.waits[i], m.median[i], m.p99[i], m.own[i] = Sample{f}, Sample{f / milli, 3 * f / milli}, Sample{9 * f / milli}, Sample{30 * f / micro}
		m.rate[i] = Sample{4000}
	}
	var report Report
	report.Times.add("a case", m)
	report.reasons("a case", m)
	text := report.Markdown("", nil)
	for _, want := range []string{
		"| a case | 1 | 2 | 9 | 30 | 12 % | 2 | 4 | 18 | 60 | 24 % |",
		"- a case: WRONG of amavisd-milter: 3 × verdict t.",
	} {
		if !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
			t.Errorf("it lacks %q: it is\n%s", want, text)
		}
	}
	if len(report.Notes) != 1 {
		t.Errorf("notes %q", report.Notes)
	}
}

// TestDoubt: who measures must have twice the room of what is measured.
func TestDoubt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		own  [2]float64 // µs a message, of which each program has 10,000 a second
		want string
	}{
		{[2]float64{50, 50}, ""},
		{[2]float64{51, 50}, "a case, ours: the load and the scanner are busy for 51 % of the time"},
		{[2]float64{10, 90}, "a case, amavisd-milter: the load and the scanner are busy for 90 % of the time"},
	} {
		m := &measured{}
		for i := range 2 {
			m.rate[i], m.own[i] = Sample{10_000}, Sample{c.own[i] / micro}
			m.median[i], m.p99[i] = Sample{1}, Sample{1}
		}
		report := &Report{}
		report.note("a case", m)
		if got := strings.Join(report.Unmet(), ";"); got != c.want {
			t.Errorf("%v: %q, want %q", c.own, got, c.want)
		}
		if got := strings.Contains(report.Markdown("", nil), "- IN DOUBT: "+c.want); c.want != "" && !got {
			t.Errorf("%v: the report does not say so", c.own)
		}
	}
}

// TestTurns: each program begins every other round.
func TestTurns(t *testing.T) {
	t.Parallel()
	for round, want := range [][2]int{{0, 1}, {1, 0}, {0, 1}} {
		if got := turns(round); got != want {
			t.Errorf("round %d: %v, want %v", round, got, want)
		}
	}
}
