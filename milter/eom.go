package milter

import (
	"context"
	"time"

	gomilter "github.com/d--j/go-milter"
)

// EndOfMessage is the one place where the MTA waits for us. It gets the verdict
// with progress packets going out meanwhile, then all changes and the disposition
// at once.
func (s *session) EndOfMessage(m gomilter.Modifier) (response *gomilter.Response, _ error) {
	defer s.srv.recovered("end of message", func() {
		s.g.rollback()
		response = s.response(TempFail(replyFailure))
		s.settle(Outcome{Sent: TempFail(replyFailure), Err: errPanic})
	})
	verdict := s.verdict(m)
	applied := s.apply(m, verdict.changes)
	if applied != nil {
		s.g.rollback()
		s.logger().Error("a change could not be sent to the MTA, the message is tempfailed", "error", applied)
		verdict = TempFail(replyFailure)
	}
	response = s.response(verdict)
	s.settle(Outcome{Sent: verdict, Err: applied})
	return response, nil
}

// verdict asks the handler, or answers what it cannot be asked.
func (s *session) verdict(m gomilter.Modifier) Verdict {
	s.begin(m)
	switch {
	case s.refusal != nil:
		s.logger().Warn("message refused before it was scanned", "reply", s.refusal.String())
		return TempFail(*s.refusal)
	case s.tx == nil:
		s.log.Warn("end of a message that never began")
		return TempFail(replyOutOfOrder)
	}
	s.learnQueueID(m)
	return s.await(s.tx)
}

// await runs the handler's Verdict and sends progress from this goroutine, the
// only one that writes. The wait is called off when the MTA hangs up.
func (s *session) await(tx Transaction) Verdict {
	ctx, cancel := context.WithCancelCause(s.srv.ctx)
	defer cancel(nil)
	verdict := make(chan Verdict, 1)
	go func() {
		defer s.srv.recovered("verdict", func() { verdict <- TempFail(replyFailure) })
		verdict <- tx.Verdict(ctx)
	}()
	gone, stop := s.g.watch()
	defer stop()
	tick := time.NewTicker(s.srv.times.Progress)
	defer tick.Stop()
	for {
		select {
		case v := <-verdict:
			return v
		case <-gone:
			gone = nil
			tick.Stop()
			cancel(ErrPeerGone)
		case <-tick.C:
			if s.g.progress() != nil {
				tick.Stop()
				cancel(ErrPeerGone)
			}
		}
	}
}

// settle hands the message over to the guard's next flush: only then is it known
// whether the answer has left, and the transaction ends.
func (s *session) settle(outcome Outcome) {
	tx := s.tx
	s.env, s.tx, s.refusal, s.size = nil, nil, nil, 0
	s.g.onFlush = func(err error) {
		defer s.srv.recovered("end of transaction", func() {})
		s.g.messageDone()
		if err != nil && outcome.Err == nil {
			outcome = Outcome{Err: err}
		}
		if tx != nil {
			tx.End(outcome)
		}
	}
}
