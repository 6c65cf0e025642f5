package milter

import (
	"errors"
	"os"
	"time"
)

// This file is how connections that have been idle for a while wait for their next
// message: without a goroutine and without the library, whose stack and state
// are most of what an idle connection costs. MTAs keep thousands of them. What is known
// of a connection is the session's and the guard's; the library begins anew with the
// offer that the MTA has made, and its answer to that is not sent again.

// dozeAfter is how long a connection is idle between two messages before that.
const dozeAfter = time.Second

// shortNap is how many times dozeAfter a nap has to last to be worth it, for to wake costs
// half as much as a message. Who was woken before is idle for as long before the next one.
const shortNap = 8

// errDoze ends the library's work on a connection that goes on.
var errDoze = errors.New("idle")

// doze is what it takes to begin the library anew.
type doze struct {
	in      *dormitory
	session *session
	offer   offer
	after   time.Duration // how long the connection is idle before the next nap
	began   time.Time     // when the last one did
	again   bool          // the MTA has its answer
	never   bool          // it was tried in vain
}

// begin starts the library. Serve takes the one connection, starts its goroutine,
// and returns.
func (d *doze) begin() {
	_ = libraryServer(d.offer, d.session).Serve(&oneShot{conn: d.session.g})
}

// lieDown notes when a nap begins.
func (d *doze) lieDown() {
	d.began = time.Now()
	if d.after > d.in.after {
		d.session.srv.quiet.note() // it may have become quiet already, and stacks are left only now
	}
}

// rise judges whether the nap was worth it.
func (d *doze) rise() {
	d.after = d.in.after
	if time.Since(d.began) < shortNap*d.after {
		d.after *= shortNap
	}
}

// awaitFrame waits for the next frame, or for the time to doze: errDoze.
func (g *guard) awaitFrame() ([]byte, error) {
	idle := g.times.Idle
	if !g.idleEnd.IsZero() {
		idle = max(time.Until(g.idleEnd), 1)
	}
	may := g.mayDoze() && g.doze.after < idle
	if may {
		idle = g.doze.after
	}
	frame, err := g.next(idle)
	switch {
	case err == nil:
		g.idleEnd = time.Time{}
	case may && errors.Is(err, os.ErrDeadlineExceeded) && g.start == g.end && time.Now().Before(g.lastMoment()):
		g.inErr, g.dozing = nil, true
		if g.idleEnd.IsZero() {
			g.idleEnd = time.Now().Add(g.times.Idle - idle)
		}
		return nil, errDoze
	}
	return frame, err
}

// mayDoze reports whether the connection is between two messages, and one that can be
// waited for otherwise.
func (g *guard) mayDoze() bool {
	return g.doze != nil && !g.doze.never && g.ready.conn != nil && g.start == g.end && g.outErr == nil && !g.isInMessage() && g.contentEnd.IsZero()
}

// lieDown is called when the library has ended: from now on the dormitory waits.
func (g *guard) lieDown() {
	g.dropBuffer()
	g.releaseOut()
	g.macros.shrink()
	g.doze.lieDown()
	until := g.idleEnd
	if last := g.lastMoment(); last.Before(until) {
		until = last
	}
	if !g.doze.in.lay(g, until) {
		g.doze.never = true
		g.wake()
	}
}

// wake begins the library anew: there is something to read, an end or an error included.
func (g *guard) wake() {
	defer func() {
		if p := recover(); p != nil {
			g.panicked(p)
			g.dozing = false
			_ = g.Close()
		}
	}()
	g.mu.Lock()
	g.bed = 0
	g.mu.Unlock()
	d := g.doze
	d.rise()
	d.again, d.session.resuming = true, true
	g.dozing = false
	g.sequence.handed = 0
	g.admitted = d.offer.frame()
	d.begin()
}
