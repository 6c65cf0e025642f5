package milter

import (
	"sync/atomic"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/panics"
)

// quietAfter is how long the events of a server are counted before it is judged whether it
// has become quiet: whether there were far fewer than at the busiest of these times.
const quietAfter = 2 * time.Second

// quietPart is by how many times fewer.
const quietPart = 16

// quiet tells when it has become quiet: once after each burst. The zero value tells nobody.
type quiet struct {
	tell   func()
	events atomic.Uint64 // so far: connections that come or go, messages that are answered
	waits  atomic.Bool   // somebody looks how many more there are
}

// note notes an event.
func (q *quiet) note() {
	if q.tell == nil {
		return
	}
	q.events.Add(1)
	if !q.waits.Load() && q.waits.CompareAndSwap(false, true) {
		q.wait(0, q.events.Load()-1)
	}
}

// wait looks after a while how many events there were behind so many; most is the most
// that there were so far.
func (q *quiet) wait(most, seen uint64) {
	time.AfterFunc(quietAfter, func() {
		now := q.events.Load()
		more := now - seen
		if more > most/quietPart {
			q.wait(max(most, more), now)
			return
		}
		q.waits.Store(false)
		q.tell()
	})
}

// OnQuiet has a function called when it has become quiet, in a goroutine of its own. It
// must be set before Serve.
func (srv *Server) OnQuiet(tell func()) {
	srv.quiet.tell = func() { panics.Survive(srv.log, "quiet", tell) }
}
