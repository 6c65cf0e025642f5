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

// TestWaitingIsNotLate: who has waited for room, for an ordinary frame or a larger one,
// has all the time for the rest of it that he would have had without, and no more.
func TestWaitingIsNotLate(t *testing.T) {
	limit := DefaultTimes().Frame
	for name, tt := range map[string]struct {
		frame []byte
		begun int           // bytes; for not all of them there is room
		wait  time.Duration // before there is
		fill  func(h *hall, sign int)
	}{
		"large": {bigFrame, 2 * ordinaryBuffer, limit / 2, func(h *hall, sign int) { h.large.Add(int64(sign * maxLargeBytes)) }},
	} {
		for _, pause := range []time.Duration{limit - time.Millisecond, limit + time.Millisecond} {
			inHall(t, Limits{}, func(h *hall) {
				tt.fill(h, 1)
				m := h.mta("", miltertest.Sendmail817)
				m.SendUpTo(plainMessage, "body")
				sent := make(chan error, 1)
				go func() { sent <- m.SendRaw(tt.frame[:tt.begun]) }()
				time.Sleep(tt.wait) // fake time
				if len(sent) != 0 {
					t.Errorf("%s: had room that there was not", name)
				}
				tt.fill(h, -1)
				if err := <-sent; err != nil {
					t.Fatalf("%s: after there was room: %v", name, err)
				}
				time.Sleep(pause) // fake time
				err := m.SendRaw(tt.frame[tt.begun:])
				if err == nil {
					_, err = m.EOM()
				}
				if (err == nil) != (pause < limit) {
					t.Errorf("%s: the rest came %v after there was room: %v", name, pause, err)
				}
			})
		}
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
