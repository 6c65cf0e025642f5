package milter

import (
	"sync/atomic"
	"time"
)

// quietAfter is how long no connection must have come or gone, and no message have been
// answered, for it to be quiet after a time when they did.
const quietAfter = 2 * time.Second

// quiet tells when it has become quiet. The zero value tells nobody.
type quiet struct {
	tell   func()
	events atomic.Uint64 // so far
	waits  atomic.Bool   // somebody looks whether there are more
}

// note notes an event.
func (q *quiet) note() {
	if q.tell == nil {
		return
	}
	q.events.Add(1)
	if !q.waits.Load() && q.waits.CompareAndSwap(false, true) {
		q.wait(q.events.Load())
	}
}

// wait looks after a while whether there were more events than so many.
func (q *quiet) wait(seen uint64) {
	time.AfterFunc(quietAfter, func() {
		if now := q.events.Load(); now != seen {
			q.wait(now)
			return
		}
		q.waits.Store(false)
		q.tell()
	})
}

// OnQuiet has a function called when it has become quiet, in a goroutine of its own. It
// must be set before Serve.
func (srv *Server) OnQuiet(tell func()) { srv.quiet.tell = tell }
