package milter

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/panics"
)

// dormitory is where connections doze. It needs a log and a time to be ready.
type dormitory struct {
	log   *slog.Logger
	after time.Duration // see dozeAfter

	mu     sync.Mutex
	set    *readySet // nil before the first
	closed bool
	last   uint64         // bed that was given last
	beds   map[uint64]bed // that are taken
}

// bed is a connection that dozes.
type bed struct {
	g     *guard
	alarm *time.Timer // when it has dozed for too long
}

// lay has a connection doze until it is roused: by something to read, by being closed,
// or by the time. It reports whether it could; if not the connection is to be woken.
func (d *dormitory) lay(g *guard, until time.Time) bool {
	set, number := d.take(g, until)
	if set == nil {
		return false
	}
	if set.add(g.ready.conn, number) {
		return true
	}
	return d.leave(number) == nil // else somebody has roused it meanwhile
}

// take takes a bed for a connection that is not in the set yet.
func (d *dormitory) take(g *guard, until time.Time) (set *readySet, number uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || !d.open() {
		return nil, 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, 0
	}
	d.last++
	number = d.last
	g.bed = number
	d.beds[number] = bed{g, time.AfterFunc(time.Until(until), func() { d.rouse(number) })}
	return d.set, number
}

// prepare makes the set before it is needed: later there may be no descriptor for it.
func (d *dormitory) prepare() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.open()
	}
}

// open makes the set, if there is none; d.mu is held.
func (d *dormitory) open() bool {
	if d.set != nil {
		return true
	}
	set, err := newReadySet()
	if err != nil {
		return false
	}
	d.set, d.beds = set, make(map[uint64]bed)
	go d.run(set)
	return true
}

// run rouses whom the set tells of. If that ends before the dormitory is closed nobody
// lies down any more, and who does is roused.
func (d *dormitory) run(set *readySet) {
	panics.Survive(d.log, "idle connections", func() { set.run(d.rouse) })
	d.mu.Lock()
	closed, numbers := d.closed, slices.Collect(maps.Keys(d.beds))
	d.closed = true
	d.mu.Unlock()
	if closed {
		return
	}
	d.log.Error("connections that are idle keep their memory from now on: what waited for them has ended")
	for _, number := range numbers {
		d.rouse(number)
	}
}

// leave empties a bed and returns who lay in it; nil for nobody.
func (d *dormitory) leave(number uint64) *guard {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, ok := d.beds[number]
	if !ok {
		return nil
	}
	delete(d.beds, number)
	b.alarm.Stop()
	return b.g
}

// rouse wakes the connection in a bed, if it still lies there. It does not wait.
func (d *dormitory) rouse(number uint64) {
	g := d.leave(number)
	if g == nil {
		return
	}
	d.set.remove(g.ready.conn)
	go g.wake()
}

// close ends the dormitory: nobody lies down any more. Who is in it is still roused by
// being closed.
func (d *dormitory) close() {
	d.mu.Lock()
	d.closed = true
	set := d.set
	d.mu.Unlock()
	if set != nil {
		set.close() // waits for its goroutine, which may wait for d.mu
	}
}

// asleep returns how many connections doze.
func (d *dormitory) asleep() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.beds)
}
