package main

import (
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter"
)

// TestGarbage: with few sessions garbage is collected less often; GOGC is the
// administrator's, and there is no limit on memory but GOMEMLIMIT.
func TestGarbage(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOGC", "")
	server := milter.NewServer(nil, slog.New(slog.DiscardHandler), milter.DefaultTimes())
	tendMemory(server)
	if got := debug.SetGCPercent(77); got != usualGarbage {
		t.Errorf("garbage is collected at %d %%", got)
	}
	t.Setenv("GOGC", "77")
	tendMemory(server)
	if got := debug.SetGCPercent(100); got != 77 {
		t.Errorf("with GOGC: %d %%", got)
	}
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("there is a limit of %d bytes", got)
	}
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
