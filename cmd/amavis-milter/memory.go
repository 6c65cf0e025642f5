package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/amavis-milter/amavis-milter/milter"
)

// This file is how much memory there may be that nobody uses. There is no limit on what is
// used (GOMEMLIMIT): that is bounded by what sessions may hold, and to collect garbage
// oftener where all of it is in use would cost the processor and bring nothing.

const (
	// mostSpare is how many bytes of garbage may come before they are collected, whatever
	// is in use, while there is much mail: so a collection is worth its cost with few
	// sessions, where little is in use, and thousands cost little more than what they hold.
	mostSpare = 20 << 20

	// leastSpare is the same while there is little: a small heap is collected more quickly,
	// and leaves smaller tables behind, which the runtime never gives back.
	leastSpare = 4 << 20

	// collectAgain is how long it may be until the next collection is due; with more than
	// mostSpare in that time it comes sooner, with less than leastSpare later.
	collectAgain = time.Second

	// leastGarbage and mostGarbage bound that in per cent of what is in use, of which Go takes
	// 4 MiB for the least: so a large mail alone, for which hardly anything is in use, leaves
	// no more than 16 MiB.
	leastGarbage = 40
	mostGarbage  = 400

	// worthReturning is how many bytes must have been allocated for memory to be given back:
	// a dozen messages. It takes two collections, which cost as much as fifty, but when it is
	// quiet the processor has nothing better to do.
	worthReturning = 128 << 10
)

// tendMemory has each collection decide when the next one comes, unless the administrator has
// set GOGC, and memory given back when it has become quiet. It must come before the server
// serves.
func tendMemory(server *milter.Server) {
	if os.Getenv("GOGC") == "" {
		newCollector()
	}
	server.OnQuiet(new(spareMemory).giveBack)
}

// collector sets how much garbage there may be.
type collector struct {
	ended     atomic.Bool
	percent   int
	last      time.Time // when garbage was collected
	allocated uint64    // bytes in all until then
}

// newCollector makes one that is called behind each collection from now on.
func newCollector() *collector {
	c := &collector{percent: garbagePercent(0, leastSpare), last: time.Now()}
	debug.SetGCPercent(c.percent)
	c.awaitNext()
	return c
}

// awaitNext has collected called behind the next collection, in the runtime's own goroutine.
func (c *collector) awaitNext() {
	runtime.AddCleanup(&marker{c}, (*collector).collected, c)
}

// marker is garbage that the next collection finds.
type marker struct{ *collector }

func (c *collector) collected() {
	if c.ended.Load() {
		return
	}
	now, all := time.Now(), allocated()
	percent := garbagePercent(inUse(), spareGarbage(all-c.allocated, now.Sub(c.last)))
	c.last, c.allocated = now, all
	// Setting it halts the program for a moment, so not for every small change.
	if 10*max(percent-c.percent, c.percent-percent) > c.percent {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
	c.awaitNext()
}

// end has it be called no more.
func (c *collector) end() { c.ended.Store(true) }

// spareGarbage returns how many bytes of garbage may come before the next collection, when
// so many were allocated in the time since the last one.
func spareGarbage(allocated uint64, took time.Duration) uint64 {
	took = max(took, collectAgain*leastSpare/mostSpare) // a few bytes in no time are not much
	expected := float64(allocated) * collectAgain.Seconds() / took.Seconds()
	return uint64(min(max(expected, leastSpare), mostSpare))
}

// garbagePercent returns how much that is in per cent of what is in use.
func garbagePercent(used, spare uint64) int {
	const leastUsed = 4 << 20 // to Go
	return int(min(max(100*spare/max(used, leastUsed), leastGarbage), mostGarbage))
}

// spareMemory is what a burst of mail has taken and left.
type spareMemory struct {
	mu    sync.Mutex
	given uint64 // bytes that were allocated in all when it was given back last
}

// giveBack gives it back to the system, if there can be enough of it: kept buffers and deep
// stacks go with the first collection or the second.
func (m *spareMemory) giveBack() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if allocated()-m.given < worthReturning {
		return
	}
	runtime.GC()
	debug.FreeOSMemory()
	m.given = allocated()
}

// allocated returns how many bytes were allocated so far.
func allocated() uint64 { return read("/gc/heap/allocs:bytes") }

// inUse returns of how many bytes Go takes GOGC: of the stacks and globals as well (package
// runtime, mgcpacer.go).
func inUse() uint64 {
	return read("/gc/heap/live:bytes") + read("/gc/scan/stack:bytes") + read("/gc/scan/globals:bytes")
}

// read reads one of the runtime's metrics.
func read(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
