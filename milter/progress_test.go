package milter

import (
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// TestContentTime: once the content of a message has begun it has to end, however it
// is cut into frames; DATA may be long before it.
func TestContentTime(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pause time.Duration // between two of 100 pieces
		want  bool
	}{
		{"just in time", (DefaultTimes().Content - time.Second) / 100, true},
		{"too late", (DefaultTimes().Content + time.Second) / 100, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inHall(t, Limits{}, func(h *hall) {
				m := h.mta("", miltertest.Sendmail817)
				m.SendUpTo(plainMessage, "data")
				time.Sleep(2 * time.Hour) // fake time
				m.Header("Subject", "x")
				var err error
				for i := 0; i < 100 && err == nil; i++ {
					time.Sleep(tt.pause) // fake time
					_, err = m.Body([]byte("x"))
				}
				a, eomErr := m.EOM()
				if passed := err == nil && eomErr == nil && a.Code == 'a'; passed != tt.want {
					t.Errorf("answer %v, %v, %v", a, err, eomErr)
				}
				if told := strings.Contains(h.log.String(), errNoProgress.Error()); told == tt.want {
					t.Errorf("log:\n%s", h.log)
				}
				if o := outcome(t, h.handler.transaction(t, 0)); (o.Err == nil) != tt.want {
					t.Errorf("outcome %+v", o)
				}
			})
		})
	}
}

// TestSessionTime: a session that never has a message answered ends, whatever it is
// busy with; each answer begins the time anew.
func TestSessionTime(t *testing.T) {
	inHall(t, Limits{}, func(h *hall) {
		limit := DefaultTimes().Session
		m := h.mta("", miltertest.Sendmail817)
		busy := func(until time.Duration) (err error) {
			for end := time.Now().Add(until); err == nil && time.Now().Before(end); {
				time.Sleep(min(time.Minute, time.Until(end))) // fake time
				if _, err = m.Mail("<a@example.net>"); err == nil {
					err = m.Abort()
				}
			}
			return err
		}
		for range 2 {
			if err := busy(limit - time.Second); err != nil || !h.passes(m) {
				t.Fatalf("closed before its time: %v", err)
			}
		}
		if err := busy(limit + time.Minute); err == nil {
			t.Error("not closed after its time")
		}
		if s := h.log.String(); !strings.Contains(s, errNoProgress.Error()) {
			t.Errorf("log:\n%s", s)
		}
	})
}
