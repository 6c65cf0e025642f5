package spool

import "time"

const (
	// maxLeft is how many directories that cannot be removed are remembered. Beyond
	// it each new message makes one be given up, to the sweep of the next start.
	maxLeft = 1000

	// leftPause is the time between two attempts to remove what could not be. Each
	// may cost a walk through a tree while an MTA waits.
	leftPause = time.Second
)

// leave is called when an entry could not be removed. It is not in use any more,
// but tryLeft and Close try again.
func (s *Spool) leave(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, e)
	s.left[e] = struct{}{}
	s.leftTried = time.Now()
}

// tryLeft tries to remove one of the entries that are left, if it is time to.
func (s *Spool) tryLeft() {
	e, last := s.pickLeft()
	if e == nil {
		return
	}
	remove := e.remove
	if last {
		remove = e.removeFinally
	}
	switch err := remove(); {
	case err == nil:
		s.log.Info("spool: a directory that could not be removed earlier is gone", "dir", e.path)
	case last:
		s.log.Error("spool: too many directories cannot be removed, one is left to the next start", "dir", e.path, "left", maxLeft, "error", err)
	}
}

// pickLeft returns one of the entries that are left, any of them, so that each has
// its turn; and whether this is its last one, because there are too many. nil means
// that it is not the time.
func (s *Spool) pickLeft() (e *entry, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last = len(s.left) > maxLeft
	if s.closed || !last && time.Since(s.leftTried) < leftPause {
		return nil, false
	}
	for e = range s.left {
		s.leftTried = time.Now()
		break
	}
	return e, last
}
