package milter

import (
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// TestWaitingIsNotLate: who has waited for room has all the time for the rest of his
// frame that he would have had without, and no more.
func TestWaitingIsNotLate(t *testing.T) {
	const begun = 2 * ordinaryBuffer // bytes; for more than the half of them there is no room
	limit := DefaultTimes().Frame
	for _, pause := range []time.Duration{limit - time.Millisecond, limit + time.Millisecond} {
		inHall(t, Limits{}, func(h *hall) {
			h.reserve(maxLargeBytes)
			m := h.mta("", miltertest.Sendmail817)
			m.SendUpTo(plainMessage, "body")
			sent := make(chan error, 1)
			go func() { sent <- m.SendRaw(bigFrame[:begun]) }()
			time.Sleep(limit / 2) // fake time
			if len(sent) != 0 {
				t.Error("had room that there was not")
			}
			h.large.Add(-maxLargeBytes)
			if err := <-sent; err != nil {
				t.Fatalf("after there was room: %v", err)
			}
			time.Sleep(pause) // fake time
			err := m.SendRaw(bigFrame[begun:])
			if err == nil {
				_, err = m.EOM()
			}
			if (err == nil) != (pause < limit) {
				t.Errorf("the rest came %v after there was room: %v", pause, err)
			}
		})
	}
}

// sessionOf returns the session of the only connection that there is.
func (h *hall) sessionOf() *session {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.crowd.conns) != 1 {
		h.t.Fatalf("%d connections", len(h.crowd.conns))
	}
	for g := range h.crowd.conns {
		return g.doze.session
	}
	return nil
}

// TestRefusedPathsAreGone: of a message that was refused for want of room no path is kept
// in memory, neither the sender's nor those of the recipients for whom there was room.
func TestRefusedPathsAreGone(t *testing.T) {
	inHall(t, Limits{}, func(h *hall) {
		h.envelopes.Store(maxEnvelopesBytes)
		defer h.envelopes.Store(0)
		m := h.mta("", miltertest.Sendmail817)
		m.Mail("<a@example.net>")
		s := h.sessionOf()
		var kept weak.Pointer[Path]
		for s.refusal == nil {
			m.Rcpt("<" + strings.Repeat("a", 900) + "@example.org>")
			synctest.Wait()
			if len(s.env.Recipients) > 0 {
				kept = weak.Make(&s.env.Recipients[0])
			}
		}
		if runtime.GC(); kept.Value() != nil || kept == (weak.Pointer[Path]{}) {
			t.Errorf("the recipients are kept, or there were none: %d", len(s.env.Recipients))
		}
		if !s.env.Sender.IsZero() {
			t.Error("the sender is kept")
		}
	})
}
