package filter

import (
	"context"
	"errors"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/internal/panics"
)

const (
	// The waits between two probes of a scanner double from minBackOff to
	// probeInterval, each of them jittered: many instances of the program that lost
	// a scanner together do not ask for it together.
	probeInterval = time.Second
	probeTimeout  = time.Second // of one probe

	// steadyTime is how long a scanner must have been back for its next prober to
	// begin with short waits again. One that comes and goes shall not fill the log.
	steadyTime = 10 * time.Second
)

// Probe tells by its nil error that somebody listens. A full backlog is an answer
// as well: who has a backlog is there.
func (c client) Probe(ctx context.Context) error {
	probe := *c.Client
	probe.ConnectTimeout = probeTimeout
	err := probe.Probe(ctx)
	if e, ok := errors.AsType[*ampdp.Error](err); ok && e.Cause == ampdp.CauseBusy {
		return nil
	}
	return err
}

// watch starts the prober of a scanner if it has none; false: the end has come. The
// caller holds mu.
func (s *scanners) watch(sc *scanner) bool {
	if s.ctx.Err() != nil {
		return false
	}
	if !sc.probing {
		sc.probing = true
		s.probers.Go(func() { s.prober(sc) })
	}
	return true
}

// prober runs probe to its end. After a panic it begins anew, a while later: a dead
// scanner without a prober would stay dead, and all mail fail with it.
func (s *scanners) prober(sc *scanner) {
	for !panics.Survive(s.log, "probing a scanner", func() { s.probe(sc) }) && s.sleep(time.Now().Add(probeInterval)) {
	}
}

// sleep waits until a time; false: the end has come before.
func (s *scanners) sleep(until time.Time) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// probe watches a scanner until it answers, to a probe or to a message. The waits
// count from the beginning of a probe to that of the next.
func (s *scanners) probe(sc *scanner) {
	last := time.Now()
	for {
		wait, ok := s.nextProbe(sc)
		if !ok || !s.sleep(last.Add(wait)) {
			return
		}
		last = time.Now()
		s.probeOnce(sc)
	}
}

// nextProbe returns the wait before the next probe; false: none is needed, and the
// scanner has no prober any more. A lone scanner is probed only when it counts as
// dead: until then messages ask it themselves, having no choice.
func (s *scanners) nextProbe(sc *scanner) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sc.standing() == inRotation || !sc.dead && !s.several() {
		sc.probing = false
		return 0, false
	}
	wait := jittered(sc.probeWait)
	sc.probeWait = min(2*sc.probeWait, probeInterval)
	return wait, true
}

// probeOnce also buries: a prober that was refused for the full retry time knows as
// much as a message that was. Without a retry time no message fails before it has
// asked, so nobody is buried.
func (s *scanners) probeOnce(sc *scanner) {
	began := time.Now()
	err := sc.Probe(s.ctx)
	if err == nil {
		s.answered(sc, began)
		return
	}
	if e, ok := errors.AsType[*ampdp.Error](err); ok && e.Refused && s.fullRetryTime() > 0 {
		s.bury(sc, err)
	}
}
