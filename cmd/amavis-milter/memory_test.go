package main

import (
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"testing"

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

// TestGarbagePercent: there may be as much garbage whatever is in use, within limits.
func TestGarbagePercent(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 400, 1: 400, spareGarbage / 4: 400, spareGarbage/4 + spareGarbage/100: 384, spareGarbage: 100, 2 * spareGarbage: 50,
		5 * spareGarbage / 2: 40, 3 * spareGarbage: 40, 1 << 50: 40,
	} {
		if got := garbagePercent(live); got != want {
			t.Errorf("%d bytes in use: %d %%, want %d", live, got, want)
		}
	}
}

// TestCollector: what is in use decides at each collection.
func TestCollector(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOGC", "")
	tendMemory(milter.NewServer(nil, slog.New(slog.DiscardHandler), milter.DefaultTimes()))
	now := func() int { percent := debug.SetGCPercent(100); debug.SetGCPercent(percent); return percent }
	await(t, "little in use", func() bool { runtime.GC(); return now() > leastGarbage })
	kept = make([]byte, 4*spareGarbage)
	await(t, "much in use", func() bool { runtime.GC(); return now() == leastGarbage })
	runtime.KeepAlive(kept)
	kept = nil
	await(t, "little in use again", func() bool { runtime.GC(); return now() > leastGarbage })
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
