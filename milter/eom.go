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
	defer s.recovered("end of message", func() {
		s.g.rollback()
		response = s.response(TempFail(replyFailure))
		s.settle(Outcome{Sent: TempFail(replyFailure), Err: errPanic})
	})
	verdict, gone := s.verdict(m)
	outcome := Outcome{Sent: verdict}
	if err := s.apply(m, verdict.changes); err != nil {
		s.g.rollback()
		s.logger().Error("a change could not be sent to the MTA, the message is tempfailed", "error", err)
		outcome = Outcome{Sent: TempFail(replyFailure), Err: err}
	}
	response = s.response(outcome.Sent)
	if gone != nil {
		outcome = Outcome{Err: gone}
	}
	s.settle(outcome)
	return response, nil
}

// verdict asks the handler, or answers what it cannot be asked. Its error says that
// nobody waits for the answer any more.
func (s *session) verdict(m gomilter.Modifier) (Verdict, error) {
	s.begin(m)
	switch {
	case s.refusal != nil:
		s.logRefusal()
		return s.refused(TempFail(*s.refusal)), nil
	case s.tx == nil:
		s.warnDisorder("end of a message that never began")
		return TempFail(replyOutOfOrder), nil
	}
	s.learnQueueID(m)
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
	if s.env != nil {
		attrs = append(attrs, "from", s.env.Sender.String(), "nrcpt", len(s.env.Recipients))
	}
	s.logger().Warn("message refused before it was scanned", attrs...)
}

// warnDisorder tells of frames that are no message.
func (s *session) warnDisorder(what string) {
	if n, tell := s.srv.warnOrder.Next(); tell {
		s.log.Warn("what the MTA sent is no message, and tempfailed", "error", what, "cases", n)
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

// watchDelay is how long a message waits for its verdict before somebody looks whether
// the MTA still does. To look costs as much as a quick verdict.
const watchDelay = 20 * time.Millisecond

// await runs the handler's Verdict and sends progress from this goroutine, the
// only one that writes. The wait is called off when the MTA hangs up, which is the
// error then.
func (s *session) await(tx Transaction) (v Verdict, gone error) {
	ctx, cancel := context.WithCancelCause(s.srv.ctx)
	defer cancel(nil)
	s.ask(ctx, tx)
	s.g.rest()
	progress, late := s.srv.times.Progress, s.srv.times.Verdict
	began := time.Now()
	next := progress // since then
	var hungUp <-chan struct{}
	alarm := time.NewTimer(watchDelay)
	defer alarm.Stop()
	for {
		select {
		case v := <-s.verdicts:
			return v, gone
		case <-hungUp:
			hungUp, gone = nil, ErrPeerGone
		case <-alarm.C:
			waited := time.Since(began)
			if waited >= late {
				cancel(ErrVerdictLate)
				return s.abandon(tx), gone
			}
			if hungUp == nil && gone == nil {
				var stop func()
				hungUp, stop = s.g.watch()
				defer stop()
			}
			if waited >= next {
				next = waited + progress
				if gone == nil && s.g.progress() != nil {
					gone = ErrPeerGone
				}
			}
			alarm.Reset(min(next, late) - waited)
		}
		if gone != nil {
			cancel(gone)
		}
	}
}

// ask has the handler's Verdict run by a worker, whom it keeps longer than the message
// lasts if it must: it touches nothing of the session. It goes to s.verdicts.
func (s *session) ask(ctx context.Context, tx Transaction) {
	if s.verdicts == nil {
		s.verdicts = make(chan Verdict, 1)
	}
	verdict, log, id := s.verdicts, s.srv.log, s.env.QueueID
	s.srv.workers.do(func() {
		defer func() {
			if p := recover(); p != nil {
				logPanic(log.With("queue_id", id), "verdict", p)
				verdict <- TempFail(replyFailure)
			}
		}()
		verdict <- tx.Verdict(ctx)
	})
}

// abandon answers a message whose Verdict does not return, as on a disk that hangs.
// Its transaction ends when it does.
func (s *session) abandon(tx Transaction) Verdict {
	log := s.logger()
	log.Error("the message is tempfailed", "error", ErrVerdictLate)
	verdict := s.verdicts
	s.tx, s.verdicts = nil, nil
	go func() {
		defer func() {
			if p := recover(); p != nil {
				logPanic(log, "end of a late transaction", p)
			}
		}()
		<-verdict
		tx.End(Outcome{Sent: TempFail(replyFailure), Err: ErrVerdictLate})
	}()
	return TempFail(replyFailure)
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
		if err != nil && outcome.Err == nil {
			outcome = Outcome{Err: err}
		}
		if tx != nil {
			tx.End(outcome)
		}
	}
}
