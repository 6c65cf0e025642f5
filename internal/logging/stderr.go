package logging

import (
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// maxStderrLine is the longest line on stderr in bytes, without time and level.
const maxStderrLine = 8 << 10

// stderrTime is the form of the time on stderr: RFC 3339 with milliseconds.
const stderrTime = "2006-01-02T15:04:05.000Z07:00"

// NewStderr returns a handler that writes lines with time and level to w.
func NewStderr(w io.Writer, level slog.Leveler) *Handler {
	return newHandler(&stderrSink{w: w}, level)
}

type stderrSink struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *stderrSink) limit() int { return maxStderrLine }

func (s *stderrSink) write(at time.Time, level slog.Level, line string) error {
	var prefix string
	if !at.IsZero() {
		prefix = at.Format(stderrTime) + " "
	}
	prefix += strings.ToLower(level.String()) + " "
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := io.WriteString(s.w, prefix+line+"\n")
	return err
}
