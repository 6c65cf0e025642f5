package milter

import "time"

// This file is what a guard holds of what all connections share, and how long.

// awaitRoom takes room for bytes of a larger read buffer. Whoever waits for it goes on
// owing us the rest of the frame: he holds room himself.
func (g *guard) awaitRoom(bytes int, wait bool) error {
	if g.crowd.reserve(bytes) {
		return nil
	}
	if !wait {
		return errNoRoom
	}
	g.crowd.noteShort()
	late := time.Now().Add(g.times.Frame)
	poll := time.NewTicker(bufferPoll)
	defer poll.Stop()
	for {
		g.crowd.wantLargerRoom()
		<-poll.C
		if g.crowd.reserve(bytes) {
			// What came meanwhile is not late.
			g.setReadDeadline(g.times.Frame)
			return nil
		}
		if g.isShut() || !time.Now().Before(late) {
			return errNoRoom
		}
	}
}

// owing notes that the MTA owes us bytes from now on, if it did not yet.
func (g *guard) owing() {
	if g.crowd != nil && g.owed.Load() == 0 {
		g.owesContent.Store(!g.contentEnd.IsZero())
		g.owed.Store(max(int64(g.crowd.now()), 1))
	}
}

// settled notes that the MTA owes us nothing.
func (g *guard) settled() {
	if g.owed.Load() != 0 {
		g.owed.Store(0)
	}
}

// owes returns how long the MTA has owed us bytes now, by the crowd's clock, and whether they
// are of a message's content. It may be called from any goroutine.
func (g *guard) owes(now time.Duration) (owed time.Duration, content bool) {
	since := time.Duration(g.owed.Load())
	if since == 0 {
		return 0, false
	}
	return now - since, g.owesContent.Load()
}

// lastMoment is when the connection ends unless there is progress until then.
func (g *guard) lastMoment() time.Time {
	if !g.contentEnd.IsZero() && g.contentEnd.Before(g.sessionEnd) {
		return g.contentEnd
	}
	return g.sessionEnd
}

func (g *guard) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}
