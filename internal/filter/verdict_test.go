package filter

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/milter"
)

const (
	headerReply  = "451 4.3.4 Message header too large"
	genericReply = "451 4.3.0 Content scanner unavailable, try again later"
	rejectReply  = "550 5.7.1 Message content rejected"
)

func TestReplyVerdict(t *testing.T) {
	set := func(code int, enhanced, text string) *ampdp.SetReply {
		return &ampdp.SetReply{Code: code, Enhanced: enhanced, Text: text}
	}
	for _, c := range []struct {
		name        string
		returnValue ampdp.ReturnValue
		setReply    *ampdp.SetReply
		disposition milter.Disposition
		reply       string
		logged      string // a piece of a warning or error; empty: none
	}{
		{"continue", ampdp.Continue, set(250, "2.6.0", "Ok"), milter.DispositionAccept, "", ""},
		{"continue without setreply", ampdp.Continue, nil, milter.DispositionAccept, "", ""},
		{"accept", ampdp.Accept, set(250, "2.6.0", "Ok"), milter.DispositionAccept, "", ""},
		{"discard", ampdp.Discard, set(250, "2.7.0", "Ok, discarded"), milter.DispositionDiscard, "", ""},
		{"continue against a 5xx", ampdp.Continue, set(554, "5.7.0", "No"), milter.DispositionAccept, "", "contradicts"},
		{"discard against a 4xx", ampdp.Discard, set(451, "4.7.0", "No"), milter.DispositionDiscard, "", "contradicts"},

		{"reject", ampdp.Reject, set(554, "5.7.0", "id=1 - INFECTED: 100% Eicar"), milter.DispositionReject, "554 5.7.0 id=1 - INFECTED: 100% Eicar", ""},
		{"reject without setreply", ampdp.Reject, nil, milter.DispositionReject, rejectReply, ""},
		{"reject with an empty text", ampdp.Reject, set(554, "5.7.0", ""), milter.DispositionReject, milter.MustSMTPReply(554, "5.7.0", "").String(), ""},
		{"reject with a 4xx", ampdp.Reject, set(451, "4.7.0", "Later"), milter.DispositionReject, rejectReply, "contradicts"},
		{"reject with a 2xx", ampdp.Reject, set(250, "2.0.0", "Ok"), milter.DispositionReject, rejectReply, "contradicts"},
		{"reject 550 with 4.7.1", ampdp.Reject, set(550, "4.7.1", "No"), milter.DispositionReject, rejectReply, "cannot be used"},
		{"reject with no enhanced code", ampdp.Reject, set(550, "x", "No"), milter.DispositionReject, rejectReply, "cannot be used"},
		{"reject that begins like an internal error", ampdp.Reject, set(554, "5.7.0", "Failure: yours"), milter.DispositionReject, "554 5.7.0 Failure: yours", ""},

		{"tempfail", ampdp.TempFail, set(450, "4.7.1", "Greylisted"), milter.DispositionTempFail, "450 4.7.1 Greylisted", ""},
		{"tempfail without setreply", ampdp.TempFail, nil, milter.DispositionTempFail, genericReply, ""},
		{"tempfail with a 5xx", ampdp.TempFail, set(550, "5.7.1", "No"), milter.DispositionTempFail, genericReply, "contradicts"},
		{"tempfail 450 with 5.7.1", ampdp.TempFail, set(450, "5.7.1", "No"), milter.DispositionTempFail, genericReply, "cannot be used"},
		{"amavisd failed", ampdp.TempFail, set(450, "4.5.0", "Failure: Can't open /var/lib/amavis/tmp"), milter.DispositionTempFail, genericReply, "/var/lib/amavis/tmp"},
		{"amavisd failed otherwise", ampdp.TempFail, set(451, "4.5.0", "Error in processing, id=1, virus_scan FAILED at /usr"), milter.DispositionTempFail, genericReply, "virus_scan FAILED"},

		{"a text of several lines", ampdp.Reject, set(554, "5.7.0", "one\ntwo\x00"), milter.DispositionReject, milter.MustSMTPReply(554, "5.7.0", "one\ntwo\x00").String(), ""},
		{"a return_value that nobody knows", "maybe", nil, milter.DispositionTempFail, genericReply, "maybe"},
		{"no return_value", "", nil, milter.DispositionTempFail, genericReply, "return_value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			log, logged := newLog(slog.LevelWarn)
			reply := &ampdp.Reply{ReturnValue: c.returnValue, SetReply: c.setReply}
			got, _ := replyVerdict(reply, nil, headerOf(t), HeaderField{}, log)
			checkVerdict(t, got, c.disposition, c.reply)
			if c.logged == "" && logged.String() != "" || !strings.Contains(logged.String(), c.logged) {
				t.Errorf("log %q, want %q", logged, c.logged)
			}
		})
	}
}

// Only a message that passes is edited.
func TestReplyVerdictEditsOnlyWhatPasses(t *testing.T) {
	log, _ := newLog(slog.LevelWarn)
	for returnValue := range dispositions {
		reply := &ampdp.Reply{ReturnValue: returnValue, Edits: []ampdp.Edit{ampdp.AddHeader{Name: "X-A", Value: "1"}}}
		got, _ := replyVerdict(reply, nil, headerOf(t), DefaultXHeader, log)
		want := 0
		if returnValue == ampdp.Continue || returnValue == ampdp.Accept {
			want = 2
		}
		if n := len(got.Changes()); n != want {
			t.Errorf("%s: %d changes, want %d", returnValue, n, want)
		}
	}
}

func TestSetReplyIsCutInTheLog(t *testing.T) {
	s := &ampdp.SetReply{Code: 450, Enhanced: "4.5.0", Text: strings.Repeat("x", 100_000)}
	if n := len(setReplyText(s)); n != maxLoggedReply+len("...") {
		t.Errorf("%d bytes", n)
	}
	for _, n := range []int{9, 10, 11} {
		want := strings.Repeat("y", n)
		if n > 10 {
			want = want[:10] + "..."
		}
		if got := truncate(strings.Repeat("y", n), 10); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
