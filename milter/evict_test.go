package milter

import (
	"net"
	"testing"
	"time"
)

// TestEvictedAtATime: of those that owe us their offer no more are closed for a newcomer
// than the page says, one fewer if there are no more, and the others for the next one
// beyond the limit.
func TestEvictedAtATime(t *testing.T) {
	for silent, want := range map[int]int{63: 63, 64: 64, 65: 64} { // docs/SECURITY.md
		inHall(t, Limits{Sessions: silent}, func(h *hall) {
			var conns []net.Conn
			for range silent {
				conns = append(conns, h.enter(""))
			}
			time.Sleep(2 * owedGrace) // fake time
			h.enter("")
			if left := silent - want + 1; h.sessions != left || h.refusing != 0 {
				t.Errorf("%d silent ones and one more: %d sessions, %d refusing, want %d and 0", silent, h.sessions, h.refusing, left)
			}
			closed := 0
			for _, c := range conns {
				if isClosed(c) {
					closed++
				}
			}
			if closed != want {
				t.Errorf("of %d silent ones %d were closed, want %d", silent, closed, want)
			}
		})
	}
}

// TestSearchPause: after a search for room that was in vain the next one comes in its
// time, even if there would be somebody by now who owes us bytes for too long.
func TestSearchPause(t *testing.T) {
	const pause = 50 * time.Millisecond // docs/SECURITY.md
	for _, limits := range []Limits{{Sessions: 1}, {SessionsPerAddress: 1}} {
		for wait, room := range map[time.Duration]bool{pause - time.Millisecond: false, pause: true, pause + time.Millisecond: true} {
			inHall(t, limits, func(h *hall) {
				silent := h.enter("192.0.2.1")
				time.Sleep(owedGrace - time.Millisecond) // fake time
				h.enter("192.0.2.1")
				if h.sessions != 1 || h.refusing != 1 {
					t.Errorf("%+v: before the grace is over %d sessions, %d refusing", limits, h.sessions, h.refusing)
				}
				time.Sleep(wait) // fake time
				h.enter("192.0.2.1")
				if got := h.refusing == 1; got != room || isClosed(silent) != room {
					t.Errorf("%+v: %v after a search in vain there is room: %v, want %v", limits, wait, got, room)
				}
			})
		}
	}
}
