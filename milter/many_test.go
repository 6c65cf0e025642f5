package milter

import (
	"slices"
	"testing"
	"testing/synctest"
)

// TestMany: it is told when the number is passed, and when there are a quarter fewer.
func TestMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(newTestLog(&logBuffer{}))
		var told []bool
		c.many.from, c.many.tell = 8, func(many bool) { told = append(told, many) }
		var guards []*guard
		to := func(n int, want ...bool) {
			t.Helper()
			for len(guards) < n {
				g := newGuard(from{address: "192.0.2.1"}, DefaultTimes())
				c.track(g)
				guards = append(guards, g)
			}
			for len(guards) > n {
				c.untrack(guards[len(guards)-1])
				guards = guards[:len(guards)-1]
			}
			synctest.Wait()
			if !slices.Equal(told, want) {
				t.Errorf("with %d: told %v, want %v", n, told, want)
			}
			told = nil
		}
		to(8)
		to(9, true)
		to(20)
		to(7)
		to(9)
		to(6, false)
		to(8)
		to(9, true)
		to(0, false)
	})
}
