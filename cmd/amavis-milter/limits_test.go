package main

import (
	"io"
	"log/slog"
	"math"
	"runtime/debug"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/config"
	"github.com/amavis-milter/amavis-milter/milter"
)

func TestSessionsFor(t *testing.T) {
	for files, want := range map[uint64]int{
		0: 1, ownFiles: 1, ownFiles + filesPerSession: 1, ownFiles + 2*filesPerSession - 1: 1, ownFiles + 2*filesPerSession: 2,
		1024: 480, 1 << 20: (1<<20 - ownFiles) / filesPerSession, math.MaxUint64: (1<<30 - ownFiles) / filesPerSession,
	} {
		if got := sessionsFor(files); got != want {
			t.Errorf("%d files: %d sessions, want %d", files, got, want)
		}
	}
}

// TestMilterLimits: what is wanted is what is served, where descriptors suffice; no
// limit means the one that they set.
func TestMilterLimits(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if got := milterLimits(&config.Config{MaxSessions: 3, MaxSessionsPerAddress: 2}, log); got != (milter.Limits{Sessions: 3, SessionsPerAddress: 2}) {
		t.Errorf("got %+v", got)
	}
	if got := milterLimits(&config.Config{}, log); got.Sessions <= 0 || got.SessionsPerAddress != 0 {
		t.Errorf("without limits: got %+v", got)
	}
}

// TestMemoryLimit: the memory from which on garbage is collected oftener grows with the
// sessions; GOMEMLIMIT is the administrator's.
func TestMemoryLimit(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv("GOGC", "")
	server := func() *milter.Server {
		return milter.NewServer(nil, slog.New(slog.DiscardHandler), milter.DefaultTimes())
	}
	for sessions, want := range map[int]int64{1: 40<<20 + 24<<10, 5000: 40<<20 + 5000*24<<10} {
		limitMemory(server(), milter.Limits{Sessions: sessions})
		if got := debug.SetMemoryLimit(-1); got != want {
			t.Errorf("%d sessions: %d bytes, want %d", sessions, got, want)
		}
	}
	if got := debug.SetGCPercent(100); got != usualGarbage {
		t.Errorf("garbage is collected at %d %%", got)
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	t.Setenv("GOGC", "77")
	debug.SetMemoryLimit(12345 << 20)
	debug.SetGCPercent(77)
	limitMemory(server(), milter.Limits{Sessions: 1})
	if got := debug.SetMemoryLimit(-1); got != 12345<<20 {
		t.Errorf("with GOMEMLIMIT: %d bytes", got)
	}
	if got := debug.SetGCPercent(100); got != 77 {
		t.Errorf("with GOGC: %d %%", got)
	}
}

// TestSessionTime: a session without a message lasts twice --timeout at least.
func TestSessionTime(t *testing.T) {
	least := milter.DefaultTimes().Session
	for timeout, want := range map[time.Duration]time.Duration{
		time.Second: least, least / 2: least, least/2 + time.Second: least + 2*time.Second, 24 * time.Hour: 48 * time.Hour,
	} {
		times := milterTimes(&config.Config{Timeout: timeout, Deadline: time.Minute})
		if times.Session != want || times.Idle != timeout || times.Verdict != time.Minute+verdictGrace {
			t.Errorf("timeout %v: got %+v, want a session of %v", timeout, times, want)
		}
	}
}
