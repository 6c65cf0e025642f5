package filter

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/milter"
)

func TestSlotsWithoutLimit(t *testing.T) {
	var s slots
	for range 1000 {
		if err := s.acquire(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	s.release()
}

// Slots go to those who came first.
func TestSlotsAreFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slots{limit: 2}
		for range 2 {
			if err := s.acquire(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
		var order []int
		for i := range 10 {
			go func() {
				if err := s.acquire(t.Context(), time.Hour); err != nil {
					t.Error(err)
				}
				order = append(order, i)
			}()
			synctest.Wait()
		}
		if len(order) != 0 {
			t.Fatalf("%d have got more slots than there are", len(order))
		}
		for i := range 10 {
			s.release()
			synctest.Wait()
			if len(order) != i+1 || order[i] != i {
				t.Fatalf("after %d releases the order is %v", i+1, order)
			}
		}
	})
}

func TestSlotsWait(t *testing.T) {
	gone, leave := context.WithCancelCause(context.Background())
	leave(milter.ErrPeerGone)
	for _, c := range []struct {
		name  string
		ctx   context.Context
		wait  time.Duration
		want  error
		after time.Duration
	}{
		{"the longest wait", context.Background(), 300 * time.Second, errNoSlot, 300 * time.Second},
		{"no wait at all", context.Background(), 0, errNoSlot, 0},
		{"the MTA has gone", gone, 300 * time.Second, milter.ErrPeerGone, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := slots{limit: 1}
				if err := s.acquire(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				err := s.acquire(c.ctx, c.wait)
				if !errors.Is(err, c.want) || time.Since(start) != c.after {
					t.Errorf("%v after %v, want %v after %v", err, time.Since(start), c.want, c.after)
				}
				if s.waiting.Len() != 0 {
					t.Error("who has given up still waits in line")
				}
				s.release()
				if err := s.acquire(t.Context(), 0); err != nil {
					t.Errorf("the slot was lost: %v", err)
				}
			})
		})
	}
}

func TestSlotsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slots{limit: 1}
		_ = s.acquire(t.Context(), 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if err := s.acquire(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A slot that is handed over in the moment in which its taker gives up goes to the
// next one, or is free again.
func TestSlotHandedToOneWhoGivesUp(t *testing.T) {
	for _, next := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := slots{limit: 1}
			_ = s.acquire(t.Context(), 0)
			ctx, leave := context.WithCancelCause(t.Context())
			first, second := make(chan error, 1), make(chan error, 1)
			go func() { first <- s.acquire(ctx, time.Hour) }()
			synctest.Wait()
			if next {
				go func() { second <- s.acquire(t.Context(), time.Hour) }()
				synctest.Wait()
			}
			s.mu.Lock()
			leave(milter.ErrPeerGone) // wakes the first, who cannot leave the line yet
			s.handOver()              // to the first
			s.mu.Unlock()
			if err := <-first; !errors.Is(err, milter.ErrPeerGone) {
				t.Fatalf("the first: %v", err)
			}
			if next {
				if err := <-second; err != nil {
					t.Errorf("the second: %v", err)
				}
				s.release()
			}
			if err := s.acquire(t.Context(), 0); err != nil || s.inUse != 1 {
				t.Errorf("the slot was lost: %v, %d in use", err, s.inUse)
			}
		})
	}
}

// No slot is lost or made when hand-overs meet those who give up.
func TestSlotsStress(t *testing.T) {
	s := slots{limit: 3}
	var users sync.WaitGroup
	var mu sync.Mutex
	inUse := 0
	for i := range 200 {
		users.Go(func() {
			for j := range 50 {
				if s.acquire(t.Context(), time.Duration((i+j)%5)*10*time.Microsecond) != nil {
					continue
				}
				mu.Lock()
				inUse++
				if inUse > 3 {
					t.Errorf("%d slots in use", inUse)
				}
				mu.Unlock()
				mu.Lock()
				inUse--
				mu.Unlock()
				s.release()
			}
		})
	}
	users.Wait()
	if s.inUse != 0 || s.waiting.Len() != 0 {
		t.Errorf("%d in use, %d waiting in the end", s.inUse, s.waiting.Len())
	}
}
