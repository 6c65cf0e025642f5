package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"

	"github.com/amavis-milter/amavis-milter/milter"
)

// This file is how much memory there may be that nobody uses. There is no limit on what is
// used (GOMEMLIMIT): that is bounded by what sessions may hold, and to collect garbage
// oftener where all of it is in use would cost the processor and bring nothing.

const (
	// manySessions is from how many sessions on memory is scarce.
	manySessions = 512

	// scarceGarbage and usualGarbage are how much garbage may come before it is collected,
	// in per cent of what is in use. With few sessions that is little: to collect it as
	// often as with many costs up to a tenth of all CPU and saves a few megabytes, which
	// come back when it is quiet.
	scarceGarbage = 40
	usualGarbage  = 400

	// worthReturning is how many bytes must have been allocated for memory to be given back:
	// some fifty messages. It takes two collections, which cost as much.
	worthReturning = 512 << 10
)

// tendMemory has garbage collected less often when sessions are few, unless the
// administrator has set GOGC, and memory given back when it has become quiet. It must come
// before the server serves.
func tendMemory(server *milter.Server) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(usualGarbage)
		server.OnMany(manySessions, func(many bool) {
			if many {
				debug.SetGCPercent(scarceGarbage)
			} else {
				debug.SetGCPercent(usualGarbage)
			}
		})
	}
	server.OnQuiet(new(spareMemory).giveBack)
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
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
