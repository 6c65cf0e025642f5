package spool

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// hold returns milter/ for one entry to be made, which owns it from then on.
func (s *Spool) hold() (*home, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	s.home.refs++
	return s.home, nil
}

func (s *Spool) letGo(h *home) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letGoLocked(h)
}

func (s *Spool) letGoLocked(h *home) {
	if h.refs--; h.refs == 0 {
		h.close()
	}
}

// register counts an entry among the live ones, unless the spool was closed.
func (s *Spool) register(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.live[e] = struct{}{}
	return true
}

// forget is called once for each entry, when it has been removed.
func (s *Spool) forget(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, e)
	delete(s.left, e)
	s.letGoLocked(e.home)
}

// isInPlace reports whether milter/ is still what its path leads to. If not, amavisd
// would look for mail where we do not put it, and perhaps find what somebody else has
// put there. It looks once in homeAge, and each time as long as the answer is no.
func (s *Spool) isInPlace(h *home) bool {
	s.mu.Lock()
	due := time.Since(s.homeSeen) >= homeAge
	s.mu.Unlock()
	if !due {
		return true
	}
	st, err := lstatat(unix.AT_FDCWD, h.path)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == nil && (st.Ino != h.ino || uint64(st.Dev) != h.dev) {
		return false
	}
	s.mu.Lock()
	s.homeSeen = time.Now()
	s.mu.Unlock()
	return true
}

// renew makes milter/ again when somebody has removed it from under us, or moved it
// away, as an administrator does who clears amavisd's directory while it stands still.
// Mail would be refused until the next start otherwise. It returns the new milter/,
// held.
func (s *Spool) renew(old *home) (*home, error) {
	s.renewing.Lock()
	defer s.renewing.Unlock()
	h, err := s.hold()
	if err != nil || h != old {
		return h, err
	}
	s.letGo(h)
	work, _, err := openWorkDir(s.workDir, s.uid)
	if err != nil {
		return nil, err
	}
	defer unix.Close(work)
	if h, err = openHome(context.Background(), work, s.workDir, s.uid, false, lockWaitRenew); err != nil {
		return nil, err
	}
	s.log.Warn("spool: the directory was removed or moved away by somebody else and has been made again", "dir", h.path)
	return s.adopt(old, h)
}

// adopt puts a new milter/ in the place of the old one and returns it, held.
func (s *Spool) adopt(old, h *home) (*home, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		h.close()
		return nil, ErrClosed
	}
	h.refs = 2 // the spool's own and the caller's
	s.home = h
	s.letGoLocked(old)
	return h, nil
}
