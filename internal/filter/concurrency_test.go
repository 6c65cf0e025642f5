package filter

import (
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter"
)

// Not more messages than slots are with amavisd, and all get there.
func TestMaxConns(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	b := newBench(t, func(c *ampdptest.Conn) {
		if _, err := c.ReadRequest(); err != nil {
			return
		}
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		runtime.Gosched()
		mu.Lock()
		now--
		mu.Unlock()
		c.Send(ampdptest.Lines("return_value=continue"))
	}, func(o *Options) { o.MaxConns = 3 })
	var messages sync.WaitGroup
	for range 60 {
		messages.Go(func() {
			tx := b.Begin(testEnvelope())
			send(tx)
			v := tx.Verdict(t.Context())
			tx.End(milter.Outcome{Sent: v})
			if v.Disposition() != milter.DispositionAccept {
				t.Errorf("verdict %v", v.Disposition())
			}
		})
	}
	messages.Wait()
	b.checkEmpty("in the end")
	if most > 3 {
		t.Errorf("%d messages at a time", most)
	}
	if n := len(b.logged.lines("level=INFO", "verdict=accept")); n != 60 {
		t.Errorf("%d lines for 60 messages", n)
	}
}

// Hundreds of messages of all kinds leave no goroutine and no descriptor.
func TestNoLeaks(t *testing.T) {
	b := newBench(t, ampdptest.Script(ampdptest.HangUp(), ampdptest.Raw("x\r\n"), ampdptest.Continue()), func(o *Options) { o.MaxConns = 4 })
	round := func() {
		var messages sync.WaitGroup
		for i := range 20 {
			messages.Go(func() {
				tx := b.Begin(testEnvelope())
				send(tx)
				switch i % 4 {
				case 0:
					tx.End(milter.Outcome{Err: milter.ErrAborted})
					return
				case 1:
					tx.Verdict(canceled(milter.ErrPeerGone))
				default:
					tx.Verdict(t.Context())
				}
				tx.End(milter.Outcome{})
			})
		}
		messages.Wait()
		b.amavisd.AwaitIdle(t)
	}
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skipf("needs /proc: %v", err)
		}
		return len(entries)
	}
	round()
	goroutines, fds := runtime.NumGoroutine(), descriptors()
	for range 20 {
		round()
	}
	b.checkEmpty("in the end")
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > goroutines+2 || descriptors() > fds+2 {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines and %d descriptors, %d and %d in the beginning", runtime.NumGoroutine(), descriptors(), goroutines, fds)
		}
		runtime.Gosched()
	}
}
