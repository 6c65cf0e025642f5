package filter

import (
	"errors"

	"github.com/amavis-milter/amavis-milter/internal/spool"
	"github.com/amavis-milter/amavis-milter/milter"
)

// Cause is why a message could not be scanned. The constants are the words of the
// option --on-failure, of the field X-Amavis-Milter-Unscanned and of the log.
type Cause string

// The causes for which the administrator chooses an [Action].
const (
	CauseUnavailable Cause = "unavailable" // refused, or ended before a reply, until the retry time was over
	CauseBusy        Cause = "busy"        // no slot, or a full backlog, until the longest wait was over
	CauseTimeout     Cause = "timeout"     // no reply in time
	CauseMalformed   Cause = "malformed"   // a malformed, truncated or unfinished reply
	CauseSpool       Cause = "spool"       // the message could not be stored
)

// Causes that no Action is asked for: these are always a tempfail, because what
// went wrong is not the scanner, or because it may have done its work.
const (
	causeRequest   Cause = "request"         // no request can be made of this message
	causeHeader    Cause = "header"          // the header passes our limits
	causeRoom      Cause = "room"            // other replies leave no memory for this one
	causePanic     Cause = "panic"           // a defect of ours; the session answers
	causeDelivered Cause = "maybe-delivered" // care of the server: it had the whole request, its reply did not come
	causeShutdown  Cause = "shutdown"        // the program ends
)

// causeSkipped is no failure: the administrator does not want the message scanned
// (option --skip).
const causeSkipped Cause = "skipped"

// Causes returns all causes that [OnFailure] knows.
func Causes() []Cause {
	return []Cause{CauseUnavailable, CauseBusy, CauseTimeout, CauseMalformed, CauseSpool}
}

// Action is what becomes of a message that could not be scanned. The zero value is
// ActionTempFail.
type Action string

// The actions, in the words of the option --on-failure.
const (
	ActionTempFail   Action = "tempfail"   // 451, or 452 where the spool is full
	ActionAccept     Action = "accept"     // let it pass, marked as unscanned
	ActionReject     Action = "reject"     // 554
	ActionQuarantine Action = "quarantine" // pass it, marked, to the MTA's own quarantine
)

// Actions returns all actions.
func Actions() []Action {
	return []Action{ActionTempFail, ActionAccept, ActionReject, ActionQuarantine}
}

// OnFailure holds the administrator's choice for each cause (option --on-failure).
// A cause that is not in it is a tempfail, so that the nil OnFailure never lets a
// message pass unscanned.
type OnFailure map[Cause]Action

// PassOnFailure is what the option -P stands for: mail passes, marked as
// unscanned, when the scanner fails. It is not for spool failures, of which the
// scanner knows nothing.
func PassOnFailure() OnFailure {
	return OnFailure{
		CauseUnavailable: ActionAccept,
		CauseBusy:        ActionAccept,
		CauseTimeout:     ActionAccept,
		CauseMalformed:   ActionAccept,
	}
}

// UnscannedHeader is the name of the field that marks a message which passed
// without a scan; its value is the Cause. One that comes from outside is deleted.
const UnscannedHeader = "X-Amavis-Milter-Unscanned"

// What the SMTP client reads. It is generic on purpose: what failed, and where, is
// for the log.
var (
	replyUnavailable = milter.MustSMTPReply(451, "4.3.0", "Content scanner unavailable, try again later")
	replyNoSpace     = milter.MustSMTPReply(452, "4.3.1", "Insufficient system storage, try again later")
	replyHeader      = milter.MustSMTPReply(451, "4.3.4", "Message header too large")
	replyShutdown    = milter.MustSMTPReply(451, "4.3.2", "Service is shutting down, try again later")
	replyUnscannable = milter.MustSMTPReply(554, "5.3.0", "Content scanner unavailable, message refused")
)

// failure is an error that ended the way of one message before its verdict.
type failure struct {
	cause Cause
	err   error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// spoolFailure makes a failure of an error of package spool. That the spool was
// closed, or took the message away, is our own end and no trouble with the spool:
// the administrator has not asked for mail to pass because of that.
func spoolFailure(err error) *failure {
	if errors.Is(err, spool.ErrClosed) || errors.Is(err, spool.ErrRemoved) {
		return &failure{causeShutdown, err}
	}
	return &failure{CauseSpool, err}
}

// isLimit reports whether a bound of all messages together keeps this one from being
// scanned. There is one line of the log a minute about each of these, not one for each
// message.
func isLimit(f *failure) bool {
	return f.cause == CauseSpool && errors.Is(f.err, spool.ErrLimit) || errors.Is(f.err, errNamesInAll)
}

// asFailure makes a failure of any error. One that nobody expected is a tempfail.
func asFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return &failure{causeRequest, err}
}

// verdict is the one place where a failure becomes a verdict. Quarantine is a
// tempfail where the MTA has none: without one the message would just pass. It also
// returns f, or the failure that keeps the message from passing as f may.
func (o OnFailure) verdict(f *failure, canQuarantine bool, fields *headerFields, xHeader HeaderField) (milter.Verdict, *failure) {
	action := o.action(f.cause)
	if action == ActionQuarantine && !canQuarantine {
		action = ActionTempFail
	}
	switch action {
	case ActionAccept, ActionQuarantine:
		changes, err := unscannedChanges(f.cause, fields, xHeader)
		if err != nil {
			f = asFailure(err)
			return milter.TempFail(f.reply()), f
		}
		if action == ActionQuarantine {
			changes = append(changes, milter.Quarantine{Reason: "not scanned: " + string(f.cause)})
		}
		return milter.Accept(changes...), f
	case ActionReject:
		return milter.Reject(replyUnscannable), f
	}
	return milter.TempFail(f.reply()), f
}

// reply is what the SMTP client reads of a failure that is a tempfail.
func (f *failure) reply() milter.SMTPReply {
	switch {
	case f.cause == CauseSpool && spool.IsNoSpace(f.err), errors.Is(f.err, errNamesInAll):
		return replyNoSpace
	case f.cause == causeHeader:
		return replyHeader
	case f.cause == causeShutdown:
		return replyShutdown
	}
	return replyUnavailable
}

// action returns what is to be done about a cause. Whatever is not one of the
// Actions is a tempfail: a mistake must not let mail pass.
func (o OnFailure) action(c Cause) Action {
	switch c {
	case CauseUnavailable, CauseBusy, CauseTimeout, CauseMalformed, CauseSpool:
		return o[c]
	}
	return ActionTempFail
}
