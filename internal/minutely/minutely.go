// Package minutely lets one line a minute into the log about what may happen a
// thousand times in it, with the number of cases.
package minutely

import (
	"sync"
	"time"
)

// Pause is the time between two lines about the same.
const Pause = time.Minute

// Cases counts what a line would be about. The zero value has told nothing yet; it
// may be used by any goroutine. Steps of the wall clock are nothing to it.
type Cases struct {
	mu   sync.Mutex
	told time.Time // zero for never
	n    int       // since then
}

// Next counts a case. It reports whether it is time for a line, and about how many
// cases.
func (c *Cases) Next() (n int, tell bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if !c.told.IsZero() && time.Since(c.told) < Pause {
		return 0, false
	}
	n = c.n
	c.n, c.told = 0, time.Now()
	return n, true
}

// Rest returns how many cases no line was about, and forgets them.
func (c *Cases) Rest() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, c.n = c.n, 0
	return n
}
