package milter

import (
	"errors"
	"os"
	"time"
)

// maxWatchedBytes is how much of what an MTA sends while it ought to wait for
// our verdict is taken in; beyond it the hang-up is found out by writing only.
const maxWatchedBytes = 64 << 10

// watch takes in what the MTA sends while it waits for our verdict. gone is closed
// when it has hung up. stop ends the watch and must be called before the next
// Read; it returns when nothing reads any more.
func (g *guard) watch() (gone <-chan struct{}, stop func()) {
	hungUp, done := make(chan struct{}), make(chan struct{})
	if g.inErr != nil {
		close(hungUp)
		return hungUp, func() {}
	}
	g.setReadDeadline(0)
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				g.panicked(p)
				g.inErr = errPanic // the verdict is still sent, and nothing read any more
			}
		}()
		for g.inErr == nil && g.end-g.start < maxWatchedBytes {
			g.receive(false)
		}
		if g.inErr != nil && g.inErr != errNoRoom && !errors.Is(g.inErr, os.ErrDeadlineExceeded) {
			close(hungUp)
		}
	}()
	return hungUp, func() {
		_ = g.conn.SetReadDeadline(time.Unix(1, 0))
		<-done
		if g.inErr == errNoRoom || errors.Is(g.inErr, os.ErrDeadlineExceeded) {
			g.inErr = nil
		}
	}
}
