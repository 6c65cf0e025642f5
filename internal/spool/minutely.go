package spool

import (
	"sync"
	"time"
)

// linePause is the time between two lines of the log about the same.
const linePause = time.Minute

// minutely lets a line pass into the log once a minute, and counts what it is about.
// Steps of the wall clock are nothing to it.
type minutely struct {
	mu    sync.Mutex
	last  time.Time // when a line passed; zero for never
	cases int       // since then
}

// next counts a case, and reports whether it is time for a line, and about how many
// cases.
func (m *minutely) next() (cases int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cases++
	if !m.last.IsZero() && time.Since(m.last) < linePause {
		return 0, false
	}
	cases, m.cases, m.last = m.cases, 0, time.Now()
	return cases, true
}

// rest returns how many cases no line was about, and forgets them.
func (m *minutely) rest() (cases int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	cases, m.cases = m.cases, 0
	return cases
}
