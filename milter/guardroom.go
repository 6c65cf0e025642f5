package milter

import "time"

// This file is what a guard holds of what all connections share, and how long.

// growBuffer makes the read buffer larger. If all connections together hold too much,
// it waits for others, or if that is not wanted returns errNoRoom.
func (g *guard) growBuffer(wait bool) error {
	size := firstReadBytes
	if g.greeted || len(g.in) > 0 {
		size = min(max(2*len(g.in), readAheadBytes), maxBufferBytes)
	}
	more := max(size-readAheadBytes, 0) - int(g.reserved.Load())
	if more > 0 && g.crowd != nil {
		if err := g.awaitRoom(more, wait); err != nil {
			return err
		}
		g.reserved.Add(int64(more))
	}
	in := make([]byte, size)
	copy(in, g.in)
	g.in = in
	return nil
}

// awaitRoom takes room for bytes of a read buffer. While it waits, it is not the MTA
// that owes something; it waits as long as the MTA may take for the whole.
func (g *guard) awaitRoom(bytes int, wait bool) error {
	if g.crowd.reserve(bytes) {
		return nil
	}
	if !wait {
		return errNoRoom
	}
	g.crowd.noteShort()
	g.settled()
	defer g.owing()
	late := time.Now().Add(g.times.Frame)
	if !g.contentEnd.IsZero() {
		late = g.lastMoment()
	}
	poll := time.NewTicker(bufferPoll)
	defer poll.Stop()
	for {
		g.crowd.wantRoom()
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

// dropBuffer gives the read buffer back.
func (g *guard) dropBuffer() {
	g.in, g.start, g.end = nil, 0, 0
	if n := g.reserved.Swap(0); n > 0 && g.crowd != nil {
		g.crowd.release(int(n))
	}
}

// owing notes that the MTA owes us bytes from now on, if it did not yet.
func (g *guard) owing() {
	if g.crowd != nil && g.owed.Load() == 0 {
		g.owesContent.Store(!g.contentEnd.IsZero())
		g.owed.Store(max(int64(time.Since(g.crowd.began)), 1))
	}
}

// settled notes that the MTA owes us nothing.
func (g *guard) settled() {
	if g.owed.Load() != 0 {
		g.owed.Store(0)
	}
}

// owes returns how long the MTA has owed us bytes, and whether they are of a message's
// content. It may be called from any goroutine.
func (g *guard) owes() (owed time.Duration, content bool) {
	since := time.Duration(g.owed.Load())
	if since == 0 {
		return 0, false
	}
	return time.Since(g.crowd.began) - since, g.owesContent.Load()
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
