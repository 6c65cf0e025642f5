package milter

import (
	"context"
	"errors"
	"io"

	gomilter "github.com/d--j/go-milter"
)

// EndOfMessage is the one place where the MTA waits for us. It gets the verdict
// with progress packets going out meanwhile, then all changes and the disposition
// at once.
func (s *session) EndOfMessage(m gomilter.Modifier) (response *gomilter.Response, _ error) {
	defer s.recovered("end of message", func() {
		s.g.rollback()
		response = s.response(TempFail(replyFailure))
		s.settle(Outcome{Sent: TempFail(replyFailure), Err: errPanic})
	})
	verdict, gone := s.verdict()
	if gone == ErrVerdictLate {
		return nil, io.EOF // the attendant has answered, and the connection is closed
	}
	if gone == errPanic {
		s.g.rollback()
		verdict, gone = TempFail(replyFailure), nil
	}
	outcome := Outcome{Sent: verdict}
	if err := s.apply(m, verdict.changes); err != nil {
		s.g.rollback()
		s.logNotSent(err)
		outcome = Outcome{Sent: TempFail(replyFailure), Err: err}
	}
	outcome.Sent.changes = nil // they are in the guard's buffer, where a slow MTA may leave them for long
	response = s.response(outcome.Sent)
	if gone != nil {
		outcome = Outcome{Err: gone}
	}
	s.settle(outcome)
	return response, nil
}

// verdict asks the handler, or answers what it cannot be asked. Its error says that
// nobody waits for the answer any more.
func (s *session) verdict() (Verdict, error) {
	s.begin()
	switch {
	case s.refusal != nil:
		s.logRefusal()
		return s.refused(TempFail(*s.refusal)), nil
	case s.tx == nil:
		s.warnDisorder("end of a message that never began")
		return TempFail(replyOutOfOrder), nil
	}
	s.learnQueueID()
	return s.await(s.tx)
}

// logRefusal logs a message of which the handler knows nothing, or not all. What a
// peer can be refused for as often as it likes is told elsewhere, once a minute.
func (s *session) logRefusal() {
	switch *s.refusal {
	case replyOutOfOrder, replyBusy, replyNoRoom:
		return
	}
	attrs := []any{"reply", s.refusal.String(), "client", s.client.Address}
	if *s.refusal == replyTooManyTo {
		n, tell := s.srv.warnTo.Next()
		if !tell {
			return
		}
		attrs = append(attrs, "cases", n)
	}
	if s.env != nil {
		attrs = append(attrs, "from", s.env.Sender.String(), "nrcpt", len(s.env.Recipients))
	}
	s.logger().Warn("message refused before it was scanned", attrs...)
}

// logNotSent logs a message whose changes could not be sent. Fields that are too long
// come as often as somebody sends them.
func (s *session) logNotSent(err error) {
	attrs := []any{"error", err}
	if errors.Is(err, errLongField) {
		n, tell := s.srv.warnField.Next()
		if !tell {
			return
		}
		attrs = append(attrs, "cases", n)
	}
	s.logger().Error("a change could not be sent to the MTA, the message is tempfailed", attrs...)
}

// warnDisorder tells of frames that are no message.
func (s *session) warnDisorder(what string) {
	if n, tell := s.srv.warnOrder.Next(); tell {
		s.srv.peerLog(s.g.conn).Warn("what the MTA sent is no message, and tempfailed", "error", what, "cases", n)
	}
}

// refused ends the transaction of a message that is answered without its verdict,
// before the answer: nothing may be left on the disk then.
func (s *session) refused(v Verdict) Verdict {
	if tx := s.tx; tx != nil {
		s.tx = nil
		s.protect("end of transaction", func() { tx.End(Outcome{Sent: v}) })
	}
	return v
}

// await runs the handler's Verdict, and an attendant beside it. Its error says why nobody
// waits for the answer any more.
func (s *session) await(tx Transaction) (v Verdict, gone error) {
	s.g.rest() // the verdict may take minutes
	a := s.srv.attendants.take(s)
	defer s.srv.attendants.give(a)
	v = s.ask(a.ctx, tx)
	if gone = a.end(); gone == ErrVerdictLate {
		s.tx = nil
		s.protect("end of a late transaction", func() {
			tx.End(Outcome{Sent: TempFail(replyFailure), Err: ErrVerdictLate})
		})
	}
	return v, gone
}

// ask runs the handler's Verdict.
func (s *session) ask(ctx context.Context, tx Transaction) (v Verdict) {
	defer s.recovered("verdict", func() { v = TempFail(replyFailure) })
	return tx.Verdict(ctx)
}

// settle hands the message over to the guard's next flush: only then is it known
// whether the answer has left, and the transaction ends.
func (s *session) settle(outcome Outcome) {
	tx := s.tx
	s.env, s.tx, s.refusal = nil, nil, nil
	s.release()
	s.g.onFlush = func(err error) {
		defer s.recovered("end of transaction", func() {})
		s.g.messageDone()
		s.srv.quiet.note()
		if err != nil && outcome.Err == nil {
			outcome = Outcome{Err: err}
		}
		if tx != nil {
			tx.End(outcome)
		}
	}
}
