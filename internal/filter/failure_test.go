package filter

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter"
)

func TestFailureVerdict(t *testing.T) {
	const (
		noSpace = "452 4.3.1 Insufficient system storage, try again later"
		refused = "554 5.3.0 Content scanner unavailable, message refused"
	)
	fields := headerOf(t, "Subject", "x-virus-scanned", "X-Virus-Scanned", "X-Amavis-Milter-Unscanned", "X-Site")
	// What a message that passes unscanned is made of, whatever it claimed.
	marked := func(c Cause, more ...milter.Change) []milter.Change {
		return append([]milter.Change{
			milter.DeleteHeader{Index: 1, Name: "X-Amavis-Milter-Unscanned"},
			milter.DeleteHeader{Index: 2, Name: "x-virus-scanned"}, milter.DeleteHeader{Index: 1, Name: "x-virus-scanned"},
			milter.AddHeader{Name: "X-Amavis-Milter-Unscanned", Value: string(c)},
		}, more...)
	}
	full := fmt.Errorf("writing: %w", syscall.ENOSPC)
	quota := fmt.Errorf("writing: %w", syscall.EDQUOT)
	other := errors.New("something")

	type row struct {
		name        string
		onFailure   OnFailure
		cause       Cause
		err         error
		disposition milter.Disposition
		reply       string
		changes     []milter.Change
	}
	rows := []row{
		{"default, disk full", nil, CauseSpool, full, milter.DispositionTempFail, noSpace, nil},
		{"default, quota", nil, CauseSpool, quota, milter.DispositionTempFail, noSpace, nil},
		{"no space elsewhere is not ours to tell", nil, CauseUnavailable, full, milter.DispositionTempFail, genericReply, nil},
		{"-P, spool", PassOnFailure(), CauseSpool, full, milter.DispositionTempFail, noSpace, nil},
		{"spool=reject, disk full", OnFailure{CauseSpool: ActionReject}, CauseSpool, full, milter.DispositionReject, refused, nil},
		{"an action that does not exist", OnFailure{CauseBusy: "pass"}, CauseBusy, other, milter.DispositionTempFail, genericReply, nil},
	}
	for _, c := range Causes() {
		quarantine := milter.Quarantine{Reason: "not scanned: " + string(c)}
		rows = append(rows,
			row{"default", nil, c, other, milter.DispositionTempFail, genericReply, nil},
			row{"empty", OnFailure{}, c, other, milter.DispositionTempFail, genericReply, nil},
			row{"tempfail", OnFailure{c: ActionTempFail}, c, other, milter.DispositionTempFail, genericReply, nil},
			row{"accept", OnFailure{c: ActionAccept}, c, other, milter.DispositionAccept, "", marked(c)},
			row{"reject", OnFailure{c: ActionReject}, c, other, milter.DispositionReject, refused, nil},
			row{"quarantine", OnFailure{c: ActionQuarantine}, c, other, milter.DispositionAccept, "", marked(c, quarantine)},
		)
		if c != CauseSpool {
			rows = append(rows, row{"-P", PassOnFailure(), c, other, milter.DispositionAccept, "", marked(c)})
		}
		for _, d := range Causes() {
			if d != c {
				rows = append(rows, row{"the action of another cause", OnFailure{d: ActionAccept}, c, other, milter.DispositionTempFail, genericReply, nil})
			}
		}
	}
	rows = append(rows, row{"nobody asks for an action", OnFailure{causeShutdown: ActionAccept}, causeShutdown, full, milter.DispositionTempFail, shutdownReply, nil})
	for _, c := range []Cause{causeRequest, causeHeader, causeRoom, causePanic, causeDelivered, "", "other"} {
		everything := OnFailure{c: ActionAccept}
		for _, known := range Causes() {
			everything[known] = ActionAccept
		}
		reply := genericReply
		if c == causeHeader {
			reply = headerReply
		}
		rows = append(rows, row{"a cause without a choice", everything, c, other, milter.DispositionTempFail, reply, nil})
	}
	for _, r := range rows {
		t.Run(r.name+"/"+string(r.cause), func(t *testing.T) {
			got, _ := r.onFailure.verdict(&failure{r.cause, r.err}, true, fields, DefaultXHeader)
			checkVerdict(t, got, r.disposition, r.reply, r.changes...)
		})
	}
	// An MTA without a quarantine.
	for _, c := range Causes() {
		got, _ := OnFailure{c: ActionQuarantine}.verdict(&failure{c, other}, false, fields, DefaultXHeader)
		checkVerdict(t, got, milter.DispositionTempFail, genericReply)
		got, _ = OnFailure{c: ActionAccept}.verdict(&failure{c, other}, false, fields, DefaultXHeader)
		checkVerdict(t, got, milter.DispositionAccept, "", marked(c)...)
	}
}

// Another X-header than the default must not lie either, nor may the default one
// where it is turned off.
func TestUnscannedChangesOfOtherXHeaders(t *testing.T) {
	fields := headerOf(t, "X-Virus-Scanned", "X-Site")
	scanned := milter.DeleteHeader{Index: 1, Name: "X-Virus-Scanned"}
	site := milter.DeleteHeader{Index: 1, Name: "X-Site"}
	mark := milter.AddHeader{Name: UnscannedHeader, Value: "busy"}
	checkChanges(t, mustPass(unscannedChanges(CauseBusy, fields, HeaderField{"x-site", "v"})), []milter.Change{scanned, site, mark})
	checkChanges(t, mustPass(unscannedChanges(CauseBusy, fields, HeaderField{})), []milter.Change{scanned, mark})
	checkChanges(t, mustPass(unscannedChanges(CauseBusy, fields, HeaderField{UnscannedHeader, "v"})), []milter.Change{scanned, mark})
}

func TestAsFailure(t *testing.T) {
	f := &failure{CauseBusy, errNoSlot}
	if got := asFailure(fmt.Errorf("while waiting: %w", f)); got != f {
		t.Errorf("a wrapped failure became %+v", got)
	}
	if got := asFailure(errNoSlot); got.cause != causeRequest || !errors.Is(got, errNoSlot) {
		t.Errorf("an unexpected error became %+v", got)
	}
}

// The words of the command line are a contract.
func TestWords(t *testing.T) {
	if got := fmt.Sprint(Causes()); got != "[unavailable busy timeout malformed spool]" {
		t.Error(got)
	}
	if got := fmt.Sprint(Actions()); got != "[tempfail accept reject quarantine]" {
		t.Error(got)
	}
}
