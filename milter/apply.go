package milter

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	gomilter "github.com/d--j/go-milter"
)

// What keeps a change from being sent.
var (
	errPanic      = errors.New("panic")
	errNotOffered = errors.New("the MTA does not offer it")
	errNotAPath   = errors.New("not a path: it has a control byte")
	errOddPath    = errors.New("more than a path: the MTA may not find the recipient, and deliver")
	errNotAName   = errors.New("not a name of a header field")
	errLongField  = fmt.Errorf("the header field has more than %d bytes: MTAs cut it", MaxHeaderField)
)

// MaxHeaderField bounds a header field that is added, inserted or changed, in bytes
// of its name, its colon and its value, line ends being LF. Postfix cuts what goes
// beyond some 60,000 bytes without a word, and a packet holds 65,535.
const MaxHeaderField = 59_900

// apply writes the changes in their order. Header changes that the MTA does not
// offer are left out; one that would decide who gets the message, or that it is
// held, cannot be left out and is an error. After an error what was written is
// the caller's to take back.
func (s *session) apply(m gomilter.Modifier, changes []Change) error {
	if n := packetBytes(changes); n > readAheadBytes {
		s.g.out = slices.Grow(s.g.out, n) // once: growing step by step it would be there three times
	}
	leftOut := 0
	for i, c := range changes {
		switch err := s.applyOne(m, c); {
		case errors.Is(err, errNotOffered) && isHeaderChange(c):
			leftOut++
		case err != nil:
			return fmt.Errorf("change %d of %d, %T: %w", i+1, len(changes), c, err)
		}
	}
	if leftOut > 0 {
		s.logger().Warn("header changes left out, the MTA does not offer them", "changes", leftOut)
	}
	return nil
}

// packetCost is more than a packet has besides the name and the value of a field.
const packetCost = 16

// packetBytes returns how many bytes the packets of all fields take at most, as far as
// they can be sent.
func packetBytes(changes []Change) (n int) {
	for _, c := range changes {
		var name, value string
		switch c := c.(type) {
		case AddHeader:
			name, value = c.Name, c.Value
		case InsertHeader:
			name, value = c.Name, c.Value
		case ChangeHeader:
			name, value = c.Name, c.Value
		case DeleteHeader:
			name = c.Name
		}
		field := len(name) + len(value) + strings.Count(value, "\n") // each may get a tab behind it
		n += packetCost + min(field, MaxHeaderField)
	}
	return n
}

func isHeaderChange(c Change) bool {
	switch c.(type) {
	case AddHeader, InsertHeader, ChangeHeader, DeleteHeader:
		return true
	}
	return false
}

// applyOne writes one change into the guard's buffer.
func (s *session) applyOne(m gomilter.Modifier, change Change) error {
	if s.actions&neededAction(change) == 0 {
		return errNotOffered
	}
	switch c := change.(type) {
	case AddHeader:
		return s.field(changeAdd, nil, c.Name, c.Value)
	case InsertHeader:
		return s.indexedField(changeInsert, c.Index, c.Name, c.Value)
	case ChangeHeader:
		return s.indexedField(changeChange, c.Index, c.Name, c.Value)
	case DeleteHeader:
		return s.deleteField(c.Index, c.Name)
	case AddRecipient:
		if err := checkPath(c.Recipient.String()); err != nil {
			return err
		}
		return m.AddRecipient(c.Recipient.String(), "")
	case DeleteRecipient:
		if err := checkPath(c.Recipient.forMTA()); err != nil {
			return err
		}
		if !c.Recipient.isFound() {
			return errOddPath
		}
		return m.DeleteRecipient(c.Recipient.forMTA())
	case Quarantine:
		return m.Quarantine(oneLine(c.Reason))
	}
	return fmt.Errorf("unknown kind of change %T", change)
}

// neededAction returns the action of the negotiation (SMFIF_*) without which the
// MTA would not take the change. Inserting needs what adding does.
func neededAction(change Change) gomilter.OptAction {
	switch change.(type) {
	case AddHeader, InsertHeader:
		return gomilter.OptAddHeader
	case ChangeHeader, DeleteHeader:
		return gomilter.OptChangeHeader
	case AddRecipient:
		return gomilter.OptAddRcpt
	case DeleteRecipient:
		return gomilter.OptRemoveRcpt
	case Quarantine:
		return gomilter.OptQuarantine
	}
	return 0
}

// checkPath refuses what the library would change or what would end the packet's
// string: another address than the one meant.
func checkPath(path string) error {
	if path == "" || strings.ContainsFunc(path, isControl) {
		return errNotAPath
	}
	return nil
}

// oneLine replaces control bytes by spaces.
func oneLine(s string) string {
	clean := []byte(s)
	for i, c := range clean {
		if c < ' ' || c == 0x7f {
			clean[i] = ' '
		}
	}
	return string(clean)
}

// response makes the library's answer of a verdict.
func (s *session) response(v Verdict) *gomilter.Response {
	switch v.disposition {
	case DispositionAccept:
		return gomilter.RespAccept
	case DispositionDiscard:
		return gomilter.RespDiscard
	case DispositionReject:
		return s.replyInstead(v.reply, gomilter.RespReject)
	case DispositionTempFail:
		return s.replyInstead(v.reply, gomilter.RespTempFail)
	}
	s.logger().Error("no verdict, the message is tempfailed; please report this")
	return s.response(TempFail(replyFailure))
}

// replyInstead has the guard send a reply in the place of the library's answer without one.
// That has no data, so the library writes it at once, as a frame of five bytes.
func (s *session) replyInstead(r SMTPReply, plain *gomilter.Response) *gomilter.Response {
	s.g.instead = appendReply(nil, r)
	return plain
}

// appendReply appends an answer with a reply to dst (SMFIR_REPLYCODE). sendmail takes the
// text for a format, in which a % is written %%; the library does the same, with 10 KB of
// garbage.
func appendReply(dst []byte, r SMTPReply) []byte {
	return appendFrame(dst, answerReplyCode, append([]byte(strings.ReplaceAll(r.String(), "%", "%%")), 0))
}

// logger returns the log with the queue id of the message at hand.
func (s *session) logger() *slog.Logger {
	if s.env != nil {
		return s.srv.log.With("queue_id", s.env.QueueID)
	}
	return s.srv.peerLog(s.g.conn)
}
