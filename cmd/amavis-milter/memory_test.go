package main

import (
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/milter"
)

// TestGarbage: GOGC is the administrator's, and there is no limit on memory but GOMEMLIMIT.
func TestGarbage(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(77))
	t.Setenv("GOGC", "77")
	tendMemory(milter.NewServer(nil, slog.New(slog.DiscardHandler), milter.DefaultTimes()))
	runtime.GC()
	if got := debug.SetGCPercent(77); got != 77 {
		t.Errorf("with GOGC: %d %%", got)
	}
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("there is a limit of %d bytes", got)
	}
}

// TestSpareGarbage: what would come in a second may come, within limits, and what comes in
// no time is no second's.
func TestSpareGarbage(t *testing.T) {
	for _, c := range []struct {
		allocated uint64
		took      time.Duration
		want      uint64
	}{
		{0, 0, leastSpare}, {0, time.Hour, leastSpare}, {mostSpare, time.Hour, leastSpare},
		{leastSpare, time.Second, leastSpare}, {leastSpare + 1000, time.Second, leastSpare + 1000},
		{mostSpare, 2 * time.Second, mostSpare / 2}, {mostSpare, time.Second, mostSpare}, {mostSpare + 1000, time.Second, mostSpare},
		{leastSpare, time.Second / 5, mostSpare}, {leastSpare, time.Microsecond, mostSpare},
		{800 << 10, time.Microsecond, leastSpare}, {800 << 10, -time.Second, leastSpare}, {1 << 62, 0, mostSpare},
	} {
		if got := spareGarbage(c.allocated, c.took); got != c.want {
			t.Errorf("%d bytes in %v: %d, want %d", c.allocated, c.took, got, c.want)
		}
	}
}

// TestGarbagePercent: there may be as much garbage whatever is in use, within limits.
func TestGarbagePercent(t *testing.T) {
	for live, want := range map[uint64][2]int{
		0: {100, 400}, 1: {100, 400}, 4 << 20: {100, 400}, 5 << 20: {80, 400}, 8 << 20: {50, 250}, 16 << 20: {40, 125},
		32 << 20: {40, 62}, 50 << 20: {40, 40}, 60 << 20: {40, 40}, 1 << 50: {40, 40},
	} {
		if got := [2]int{garbagePercent(live, leastSpare), garbagePercent(live, mostSpare)}; got != want {
			t.Errorf("%d bytes in use: %d %%, want %d", live, got, want)
		}
	}
}

// TestCollector: how fast garbage comes, and what is in use, decide at each collection.
func TestCollector(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	defer newCollector().end()
	after := func(garbage int) uint64 {
		kept = make([]byte, garbage)
		kept = nil
		runtime.GC()
		return read("/gc/gogc:percent")
	}
	const little = 100 // per cent of the 4 MiB that Go takes for the least in use
	await(t, "much garbage", func() bool { return after(2*mostSpare) > 3*little })
	await(t, "little garbage", func() bool { return after(0) == little })
	live := make([]byte, 4*mostSpare)
	await(t, "much in use", func() bool { return after(2*mostSpare) == leastGarbage })
	runtime.KeepAlive(live)
	await(t, "little in use again", func() bool { return after(2*mostSpare) > 3*little })
}

// TestGiveBack: memory is given back after enough was allocated, and not before.
func TestGiveBack(t *testing.T) {
	var stats runtime.MemStats
	collections := func() uint32 { runtime.ReadMemStats(&stats); return stats.NumForcedGC }
	m := new(spareMemory)
	m.giveBack() // tests have allocated more than that
	before := collections()
	m.giveBack()
	if now := collections(); now != before {
		t.Errorf("%d collections for nothing", now-before)
	}
	kept = make([]byte, worthReturning)
	m.giveBack()
	if now := collections(); now != before+2 {
		t.Errorf("%d collections for %d bytes, want 2", now-before, len(kept))
	}
}

var kept []byte // so that it is allocated
