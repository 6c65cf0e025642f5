package filter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

const (
	// maxSends is how often a whole request is sent at most: a message that makes
	// the scanner die must not do so for ever.
	maxSends = 4

	// The wait between two rounds through the scanners doubles from the first
	// bound to the second; see jittered.
	minBackOff = 50 * time.Millisecond
	maxBackOff = 2 * time.Second
)

var (
	errAllDead = errors.New("every content scanner is down")
	errUnknown = errors.New("unexpected error of the AM.PDP client")
)

// scan is the way of one request through the scanners.
type scan struct {
	*scanners
	req   *ampdp.Request
	clean func() error // prepares the spool directory for another try
	log   *slog.Logger
	wait  time.Duration // that is left of the message's longest wait, from firstFailure on

	visits []*visit      // of all scanners, in their order
	rounds int           // begun
	sent   int           // whole requests
	asked  string        // the scanner of the last try; empty if there is no other
	took   time.Duration // of that try

	firstTry     time.Time
	firstFailure time.Time // the end of the first try in vain
	firstRefusal time.Time // the same since the last sign of life; zero: none since
}

// visit is what one message knows about one scanner.
type visit struct {
	*scanner
	round   int // the last one in which it was asked
	tries   int
	refused int // of those tries
	dropped int // whole requests without a reply
	lastErr error
}

// do sends the request until one of the scanners has replied or time is over, and
// returns the reply or a *failure; or the cause of ctx if that was cancelled.
func (s *scan) do(ctx context.Context) (*ampdp.Reply, error) {
	for _, sc := range s.list {
		s.visits = append(s.visits, &visit{scanner: sc})
	}
	if s.allDown() {
		return nil, &failure{CauseUnavailable, errAllDead}
	}
	s.firstTry = time.Now()
	var last *tryAgain
	for {
		sent := s.sent
		reply, err := s.round(ctx)
		if err == nil {
			return reply, nil
		}
		var again *tryAgain
		if !errors.As(err, &again) {
			return nil, err
		}
		if last != nil && ctx.Err() != nil && s.sent == sent && again.cause != CauseBusy {
			again = last // that round had no time to find out more
		}
		last = again
		wait := jittered(backOff(s.rounds - 1))
		if s.sent > sent {
			wait = s.afterSend()
		}
		if err := s.pause(ctx, again, wait); err != nil {
			return nil, err
		}
	}
}

// afterSend is the wait after a round in which somebody took the request and died.
// A child of amavisd that came to its end is replaced at once. If it happens again
// something is wrong, and the last of the few requests is kept for the end of the
// retry time: what is wrong may be over by then.
func (s *scan) afterSend() time.Duration {
	switch {
	case s.sent == 1:
		return jittered(minBackOff)
	case s.sent < maxSends-1:
		return jittered(maxBackOff)
	}
	return max(time.Until(s.firstFailure.Add(s.retryTime)), minBackOff)
}

// tryAgain is the failure of a round after which another one makes sense.
type tryAgain struct{ failure }

// round asks one scanner after the other, as choose has it, until one replies. Its
// error is a *tryAgain if none did and another round may bring a reply: busy if one
// of them was, since that one is known to live.
func (s *scan) round(ctx context.Context) (*ampdp.Reply, error) {
	s.rounds++
	var last *tryAgain
	sent := s.sent
	for v := s.choose(s.visits, s.rounds); v != nil; v = s.choose(s.visits, s.rounds) {
		reply, err := s.try(ctx, v)
		if err == nil {
			return reply, nil
		}
		var again *tryAgain
		if !errors.As(err, &again) {
			return nil, err
		}
		if last == nil || last.cause != CauseBusy {
			last = again
		}
		if s.sent > sent && s.sent == maxSends-1 { // see afterSend
			break
		}
		if ctx.Err() != nil { // the deadline came in that try
			break
		}
	}
	return nil, last
}

// try sends the request to one scanner, which choose has returned.
func (s *scan) try(ctx context.Context, v *visit) (*ampdp.Reply, error) {
	defer s.release(v.scanner)
	if s.sent > 0 {
		if err := s.clean(); err != nil {
			return nil, spoolFailure(err)
		}
	}
	v.tries++
	if s.several() {
		s.asked = v.name
	}
	began := time.Now()
	reply, err := v.Do(ctx, s.req)
	s.took = time.Since(began)
	if err == nil {
		s.replied(v.scanner, began)
		return reply, nil
	}
	v.lastErr = err
	s.log.Debug("a try failed", "scanner", v.name, "error", err, "took", s.took)
	return nil, s.judge(ctx, v, err, began)
}

// learn keeps what the error of one try tells about the scanner, and about the time
// that it took.
func (s *scan) learn(ctx context.Context, v *visit, e *ampdp.Error, began time.Time) {
	switch {
	case e.Refused:
		v.refused++
		s.refused(v.scanner, e)
	case e.Cause == ampdp.CauseBusy, e.Cause == ampdp.CauseMalformed, e.Cause == ampdp.CauseUnavailable && e.RequestSent:
		s.answered(v.scanner, began)
		s.rest(v.scanner, began, e)
	case e.Cause == ampdp.CauseNoRoom: // it has replied, and the want is ours
		s.answered(v.scanner, began)
	case e.NoMeans, e.Cause == ampdp.CauseRequest, ctx.Err() != nil: // not the scanner's doing
	default:
		s.rest(v.scanner, began, e)
	}
	if e.RequestSent {
		s.sent++
		v.dropped++
		// Somebody has worked on it: the retry time begins anew, and what he spent
		// on it was no waiting.
		s.firstRefusal = time.Time{}
		if !s.firstFailure.IsZero() {
			s.wait += s.took
		}
	}
	now := time.Now()
	if s.firstFailure.IsZero() {
		s.firstFailure = now
	}
	if e.Cause != ampdp.CauseBusy && s.firstRefusal.IsZero() {
		s.firstRefusal = now
	}
}

// judge says what the error of one try means for the message: a *tryAgain, a
// *failure, or the cause of ctx.
func (s *scan) judge(ctx context.Context, v *visit, err error, began time.Time) error {
	var e *ampdp.Error
	if !errors.As(err, &e) {
		return &failure{causeRequest, fmt.Errorf("%w: %w", errUnknown, err)}
	}
	s.learn(ctx, v, e, began)
	switch {
	case e.Cause == ampdp.CauseCanceled && ctx.Err() != nil:
		return context.Cause(ctx)
	case e.RequestSent && s.req.DeliveryCareOf == ampdp.CareOfServer:
		// The message may be on its way: to pass it would deliver it twice, to
		// reject it would lie to its sender.
		return &failure{causeDelivered, err}
	}
	switch e.Cause {
	case ampdp.CauseUnavailable:
		if s.sent >= maxSends {
			return &failure{CauseUnavailable, fmt.Errorf("gave up after %d whole requests: %w", s.sent, err)}
		}
		return &tryAgain{failure{CauseUnavailable, err}}
	case ampdp.CauseBusy:
		return &tryAgain{failure{CauseBusy, err}}
	case ampdp.CauseTimeout:
		return &failure{CauseTimeout, err}
	case ampdp.CauseMalformed:
		return &failure{CauseMalformed, err}
	case ampdp.CauseNoRoom: // another scanner's reply would find none either
		return &failure{causeRoom, err}
	}
	return &failure{causeRequest, err}
}

// pause waits before the next round, or says that there is none. The last round
// comes when the time is just over, so that all of it is used. Neither time counts
// what a scanner spent on the message before it died. A round in which one was busy
// is a sign of life: the retry time is for scanners that give none.
func (s *scan) pause(ctx context.Context, again *tryAgain, wait time.Duration) error {
	now := time.Now()
	until := s.firstFailure.Add(s.wait)
	if again.cause == CauseBusy {
		s.firstRefusal = time.Time{}
	} else if end := s.firstRefusal.Add(s.retryTime); end.Before(until) {
		until = end
	}
	left := until.Sub(now)
	if left <= 0 {
		if full := s.fullRetryTime(); full > 0 && !s.firstRefusal.IsZero() && now.Sub(s.firstRefusal) >= full {
			s.buryRefused()
		}
		return &failure{again.cause, fmt.Errorf("gave up after %v: %w", now.Sub(s.firstTry).Round(time.Millisecond), again.err)}
	}
	timer := time.NewTimer(min(wait, left))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &failure{again.cause, fmt.Errorf("the deadline has come: %w", again.err)}
	}
	return context.Cause(ctx)
}

// buryRefused buries the scanners that did nothing but refuse this message, if they
// have done so for long enough. It is called when [scanners.bury] may be.
func (s *scan) buryRefused() {
	for _, v := range s.visits {
		if v.refused > 0 && v.refused == v.tries {
			s.bury(v.scanner, v.lastErr)
		}
	}
}

// jittered spreads waits of the same length, so that messages that failed together
// do not come back together: between half of d and d.
func jittered(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}
