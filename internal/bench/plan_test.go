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
	if got, want := strings.Join(more, ", "), "sendmail, as it writes; unix; memory; C=1, sendmail, as it writes; unix; memory; C=64"; got != want {
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
	}
	var report Report
	report.Times.add("a case", m)
	report.reasons("a case", m)
	text := report.Markdown("", nil)
	for _, want := range []string{
		"| a case | 1 | 2 | 9 | 30 | 2 | 4 | 18 | 60 |",
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
		unit string
		most float64
		want string
	}{
		{"msg/s", 16_000, ""},
		{"msg/s", 15_999, "the load and the scanner alone can do 15,999 msg/s, less than 2 times the fastest row's 8,000"},
		{"MB/s", 1800, ""},
		{"MB/s", 1500, "the load and the scanner alone can do 1,500 MB/s, less than 2 times the fastest row's 900"},
		{"rows that there are not", 0, ""},
	} {
		report := &Report{
			Goals:  Table{{Unit: "msg/s", Values: [2]Sample{{7000, 7000, 99_000}, {500}}}, {Unit: "MB/s", Values: [2]Sample{{800}, {900}}}},
			Others: Table{{Unit: "msg/s", Values: [2]Sample{{8000}}}, {Unit: "CPU", Values: [2]Sample{{90_000}}}},
		}
		report.doubt(c.unit, c.most)
		if got := strings.Join(report.Unmet(), ";"); got != c.want {
			t.Errorf("%v %s: %q, want %q", c.most, c.unit, got, c.want)
		}
		if got := strings.Contains(report.Markdown("", nil), "- IN DOUBT: "+c.want); c.want != "" && !got {
			t.Errorf("%v %s: the report does not say so", c.most, c.unit)
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
