package main

import (
	"io"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/config"
	"github.com/amavis-milter/amavis-milter/milter"
)

func TestSessionsFor(t *testing.T) {
	for files, want := range map[uint64]int{
		0: 1, ownFiles: 1, ownFiles + filesPerSession: 1, ownFiles + 2*filesPerSession - 1: 1, ownFiles + 2*filesPerSession: 2,
		1024: 234, 1 << 20: (1<<20 - ownFiles) / filesPerSession, math.MaxUint64: (1<<30 - ownFiles) / filesPerSession,
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
