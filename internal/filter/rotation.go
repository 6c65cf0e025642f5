package filter

import (
	"cmp"
	"time"
)

// standing says whether a scanner is in rotation. Only those of the best standing
// that there is are asked.
type standing int

const (
	inRotation    standing = iota
	outOfRotation          // has refused, and nobody has reached it since
	down                   // the same for the full retry time: see bury
)

// standing returns the scanner's. The caller holds mu.
func (sc *scanner) standing() standing {
	switch {
	case sc.dead:
		return down
	case !sc.silentSince.IsZero():
		return outOfRotation
	}
	return inRotation
}

// bestStanding returns the best of all scanners' standings. The caller holds mu.
func (s *scanners) bestStanding() standing {
	best := down
	for _, sc := range s.list {
		best = min(best, sc.standing())
	}
	return best
}

// allDown reports whether no scanner is worth a message.
func (s *scanners) allDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bestStanding() == down
}

// rank orders scanners of the same standing for one message: the least is asked
// first. Load alone will not do: a scanner that fails at once has none.
type rank struct {
	resting int // 1: it has just failed, see rest
	dropped int // whole requests of this message that it took without a reply
	load    int // requests under way
}

func (r rank) compare(other rank) int {
	return cmp.Or(
		cmp.Compare(r.resting, other.resting),
		cmp.Compare(r.dropped, other.dropped),
		cmp.Compare(r.load, other.load),
	)
}

// choose returns the visit to the scanner that a message asks next, or nil if it has
// asked all in this round that are worth it: those in rotation, or if there are none
// those that refuse, or if all are down these. Among equals it goes round, so that
// idle scanners share the mail. The request counts as the scanner's load until
// release. visits are in the order of the list.
func (s *scanners) choose(visits []*visit, round int) *visit {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, asked := time.Now(), s.bestStanding()
	best, bestRank := -1, rank{}
	for i := range visits {
		at := (s.next + i) % len(visits)
		v := visits[at]
		if v.round == round || v.standing() != asked {
			continue
		}
		r := rank{dropped: v.dropped, load: v.load}
		if now.Before(v.restUntil) {
			r.resting = 1
		}
		if best < 0 || r.compare(bestRank) < 0 {
			best, bestRank = at, r
		}
	}
	if best < 0 {
		return nil
	}
	s.next = best + 1
	visits[best].round = round
	visits[best].load++
	return visits[best]
}

// release ends a request that choose has begun.
func (s *scanners) release(sc *scanner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sc.load--
}

// rest puts a scanner that is there, but failed on a request that began at the given
// time, behind the others: for minBackOff, and for twice as long after each further
// failure, up to maxBackOff. So one that drops what it gets, or whose backlog is
// full, does not draw the mail by being the least busy one, and is still asked now
// and then. Requests that fail together count once. The log has a line when this
// does not pass.
func (s *scanners) rest(sc *scanner, began time.Time, err error) {
	if s.failed(sc, began) == maxFailures && s.several() {
		s.log.Warn("the content scanner fails on all that it is given: it is asked only now and then",
			"scanner", sc.name, "error", err)
	}
}

// failed returns which failure in a row this one is; 0: it counts as one with the
// last.
func (s *scanners) failed(sc *scanner, began time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if began.Before(sc.failedAt) {
		return 0
	}
	sc.failedAt = time.Now()
	sc.restUntil = sc.failedAt.Add(jittered(backOff(sc.failures)))
	sc.failures++
	return sc.failures
}

// replied notes that a request, begun at the given time, had its reply.
func (s *scanners) replied(sc *scanner, began time.Time) {
	s.mu.Lock()
	wasUnreliable := sc.failures >= maxFailures && s.several()
	sc.failures, sc.restUntil = 0, time.Time{}
	s.mu.Unlock()
	if wasUnreliable {
		s.log.Info("the content scanner replies again", "scanner", sc.name)
	}
	s.answered(sc, began)
}

// backOff returns the wait after the failure that follows n others: it doubles from
// minBackOff to maxBackOff. See jittered.
func backOff(n int) time.Duration {
	wait := minBackOff
	for ; n > 0 && wait < maxBackOff; n-- {
		wait *= 2
	}
	return min(wait, maxBackOff)
}
