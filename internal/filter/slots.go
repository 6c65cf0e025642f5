package filter

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// errNoSlot says that no slot became free in time.
var errNoSlot = errors.New("no slot became free")

// slots bounds how many messages are with the scanners at the same time, in the
// order in which they came (option --max-conns). The zero value has no bound.
type slots struct {
	limit int // 0: no bound

	mu      sync.Mutex
	inUse   int
	waiting list.List // of chan struct{}, closed to hand a slot over; oldest first
}

// acquire takes a slot, waiting for one at most maxWait. Its error is errNoSlot
// when that time is over, otherwise the cause of ctx. A slot that is free is taken
// even when maxWait is 0.
func (s *slots) acquire(ctx context.Context, maxWait time.Duration) error {
	if s.limit == 0 {
		return nil
	}
	s.mu.Lock()
	if s.inUse < s.limit {
		s.inUse++
		s.mu.Unlock()
		return nil
	}
	if maxWait <= 0 {
		s.mu.Unlock()
		return errNoSlot
	}
	turn := make(chan struct{})
	place := s.waiting.PushBack(turn)
	s.mu.Unlock()

	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	var err error
	select {
	case <-turn:
		return nil
	case <-timer.C:
		err = errNoSlot
	case <-ctx.Done():
		err = context.Cause(ctx)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-turn: // handed over in the same moment: pass it on
		s.handOver()
	default:
		s.waiting.Remove(place)
	}
	return err
}

// release gives a slot back.
func (s *slots) release() {
	if s.limit == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handOver()
}

// handOver gives a slot that is in use to who waits longest, or frees it. The
// caller holds mu.
func (s *slots) handOver() {
	front := s.waiting.Front()
	if front == nil {
		s.inUse--
		return
	}
	close(s.waiting.Remove(front).(chan struct{}))
}
