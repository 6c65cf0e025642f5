package milter

import "sync/atomic"

// idleWorkers is how many workers wait for work that has not come yet.
const idleWorkers = 32

// workers run what needs a deep stack. There is one for each message that waits for its
// verdict, and some more; the goroutines of the connections, of which there can be
// thousands that wait for their next message, keep small stacks that way.
type workers struct {
	work chan func()
	end  <-chan struct{} // closed when those that wait are to go
	idle atomic.Int32
}

// do runs work in another goroutine, at once.
func (w *workers) do(work func()) {
	select {
	case w.work <- work:
	default:
		go w.run(work)
	}
}

func (w *workers) run(work func()) {
	for {
		work()
		if w.idle.Add(1) > idleWorkers {
			w.idle.Add(-1)
			return
		}
		select {
		case work = <-w.work:
			w.idle.Add(-1)
		case <-w.end:
			return
		}
	}
}
