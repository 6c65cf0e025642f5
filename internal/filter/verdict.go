package filter

import (
	"log/slog"
	"strconv"
	"strings"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/milter"
)

// HeaderField is a header field that marks a scanned message (option --x-header).
// The zero value is none.
type HeaderField struct{ Name, Value string }

// DefaultXHeader is the field that marks a scanned message unless the administrator
// chose another one, or none.
var DefaultXHeader = HeaderField{Name: "X-Virus-Scanned", Value: "by amavis-milter"}

var replyRejected = milter.MustSMTPReply(550, "5.7.1", "Message content rejected")

// dispositions is the table that turns a return_value into what becomes of the
// message. replyClass is the first digit that a setreply must have to go with it;
// amavisd sends "250 …" with continue, accept and discard as well, where it has no
// use. fallback is the reply if amavisd gave none that can be used.
var dispositions = map[ampdp.ReturnValue]struct {
	disposition milter.Disposition
	replyClass  int
	fallback    milter.SMTPReply
}{
	ampdp.Continue: {disposition: milter.DispositionAccept, replyClass: 2},
	ampdp.Accept:   {disposition: milter.DispositionAccept, replyClass: 2},
	ampdp.Discard:  {disposition: milter.DispositionDiscard, replyClass: 2},
	ampdp.Reject:   {milter.DispositionReject, 5, replyRejected},
	ampdp.TempFail: {milter.DispositionTempFail, 4, replyUnavailable},
}

// internalErrors are the beginnings of the texts that amavisd gives a tempfail
// after an error of its own (Amavis/In/AMPDP.pm, Amavis.pm). What follows can hold
// paths of the scanning host and is not for strangers.
var internalErrors = []string{"Failure:", "Error in processing"}

// replyVerdict turns amavisd's reply into the verdict on a message with these
// recipients and header fields. A reply is whole and checked when it gets here: what is
// odd in it goes to log. So its error is only that of acceptChanges.
func replyVerdict(reply *ampdp.Reply, recipients []milter.Path, fields *headerFields, xHeader HeaderField, log *slog.Logger) (milter.Verdict, error) {
	row, ok := dispositions[reply.ReturnValue]
	if !ok { // ampdp lets no other through
		log.Error("amavisd's return_value is unknown", "return_value", string(reply.ReturnValue))
		return milter.TempFail(replyUnavailable), nil
	}
	setReply := reply.SetReply
	if setReply != nil && setReply.Code/100 != row.replyClass {
		log.Warn("amavisd's setreply contradicts its return_value, which counts",
			"return_value", string(reply.ReturnValue), "setreply", setReplyText(setReply))
		setReply = nil
	}
	switch row.disposition {
	case milter.DispositionAccept:
		changes, err := acceptChanges(reply.Edits, recipients, fields, xHeader)
		return milter.Accept(changes...), err
	case milter.DispositionReject:
		return milter.Reject(smtpReply(setReply, row.fallback, log)), nil
	case milter.DispositionDiscard:
		return milter.Discard(), nil
	default:
		return milter.TempFail(smtpReply(setReply, row.fallback, log)), nil
	}
}

// smtpReply returns what the SMTP client is to read: amavisd's own reply where
// there is one, it is consistent, and it is meant for strangers.
func smtpReply(s *ampdp.SetReply, fallback milter.SMTPReply, log *slog.Logger) milter.SMTPReply {
	if s == nil {
		return fallback
	}
	if s.Code/100 == 4 {
		for _, beginning := range internalErrors {
			if strings.HasPrefix(s.Text, beginning) {
				log.Error("amavisd failed on this message, see its log", "setreply", setReplyText(s))
				return fallback
			}
		}
	}
	reply, err := milter.NewSMTPReply(s.Code, s.Enhanced, s.Text)
	if err != nil {
		log.Warn("amavisd's setreply cannot be used", "setreply", setReplyText(s), "error", err)
		return fallback
	}
	return reply
}

// maxLoggedReply bounds what one log line shows of a setreply, in bytes.
const maxLoggedReply = 500

func setReplyText(s *ampdp.SetReply) string {
	return truncate(strconv.Itoa(s.Code)+" "+s.Enhanced+" "+s.Text, maxLoggedReply)
}
