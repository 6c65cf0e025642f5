package milter

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// TestQuiet: it is told once after each time of events, not before they are over, and
// never without.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		told := make(chan time.Duration, 10)
		q := &quiet{tell: func() { told <- time.Since(began) }}
		time.Sleep(10 * quietAfter) // fake time, as all here
		if len(told) != 0 {
			t.Errorf("told after %v without an event", <-told)
		}
		for range 3 {
			var last time.Time
			for range 50 {
				q.note()
				last = time.Now()
				time.Sleep(quietAfter / 8)
			}
			if len(told) != 0 {
				t.Errorf("told after %v, between events", <-told)
			}
			time.Sleep(12 * quietAfter)
			if len(told) != 1 {
				t.Fatalf("told %d times", len(told))
			}
			if after := began.Add(<-told).Sub(last); after < quietAfter || after > 2*quietAfter {
				t.Errorf("told %v after the last event", after)
			}
		}
	})
}

// TestQuietAmidTrickle: after a burst it is told although some mail goes on, once; the
// trickle alone is no burst.
func TestQuietAmidTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(chan struct{}, 100)
		q := &quiet{tell: func() { told <- struct{}{} }}
		trickle := func(periods int) {
			for range 2 * periods {
				q.note()
				time.Sleep(quietAfter / 2) // fake time
			}
		}
		for range 3 {
			for range 1000 {
				q.note()
			}
			trickle(3)
			if len(told) != 1 {
				t.Fatalf("after the burst told %d times", len(told))
			}
			<-told
			trickle(20)
			if len(told) != 0 {
				t.Fatalf("told %d times of a trickle", len(told))
			}
		}
		time.Sleep(3 * quietAfter)
	})
}

// TestServerGrowsQuiet: messages, and connections that come and go, are events.
func TestServerGrowsQuiet(t *testing.T) {
	told := make(chan struct{}, 10)
	b := startServerOn(t, "unix", &testHandler{}, DefaultTimes(), func(srv *Server) { srv.OnQuiet(func() { told <- struct{}{} }) })
	before := b.quiet.events.Load()
	m := b.mta(t, miltertest.Postfix37)
	until(t, "a connection", func() bool { return b.quiet.events.Load() > before })
	before = b.quiet.events.Load()
	a, err := m.SendMessage(plainMessage)
	mustAnswer(t, a, err, "accept")
	until(t, "a message", func() bool { return b.quiet.events.Load() > before })
	before = b.quiet.events.Load()
	m.Conn.Close()
	until(t, "a connection that goes", func() bool { return b.quiet.events.Load() > before })
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Error("it never grows quiet")
	}
}
