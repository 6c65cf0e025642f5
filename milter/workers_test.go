package milter

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestWorkers: work begins at once however much there is, of the workers no more than
// idleWorkers stay, they are used again, and they go with the server.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, n := range []int{1, idleWorkers - 1, idleWorkers, idleWorkers + 1, 3 * idleWorkers} {
			end := make(chan struct{})
			w := &workers{work: make(chan func()), end: end}
			for range 2 { // the second time those that stayed do a part of it
				var all sync.WaitGroup
				began := time.Now()
				for range n {
					all.Add(1)
					w.do(func() {
						defer all.Done()
						time.Sleep(time.Second) // fake time
					})
				}
				all.Wait()
				if took := time.Since(began); took != time.Second {
					t.Errorf("%d at once took %v", n, took)
				}
				synctest.Wait()
				if got, want := int(w.idle.Load()), min(n, idleWorkers); got != want {
					t.Errorf("after %d at once %d workers are left, want %d", n, got, want)
				}
			}
			close(end) // synctest finds those who stay
		}
	})
}
