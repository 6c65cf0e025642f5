package minutely

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestCases: the first case is told, later ones after the pause and with their
// number, not a moment earlier; at the end those of which no line has told.
func TestCases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Cases
		want := func(wantN int, wantTell bool) {
			t.Helper()
			if n, tell := c.Next(); n != wantN || tell != wantTell {
				t.Errorf("%d, %v; want %d, %v", n, tell, wantN, wantTell)
			}
		}
		rest := func(want int) {
			t.Helper()
			if n := c.Rest(); n != want {
				t.Errorf("rest: %d, want %d", n, want)
			}
		}
		rest(0)
		want(1, true)
		want(0, false)
		time.Sleep(Pause - 1) // fake time
		want(0, false)
		time.Sleep(time.Nanosecond) // fake time
		want(3, true)
		rest(0)
		want(0, false)
		rest(1)
		rest(0)
		time.Sleep(10 * Pause) // fake time
		want(1, true)
	})
}
