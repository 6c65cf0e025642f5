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
	mu   sync.Mutex
	w    io.Writer
	text []byte // of the last write, kept for its memory
}

func (s *stderrSink) limit() int { return maxStderrLine }

func (s *stderrSink) write(at time.Time, level slog.Level, line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.text[:0]
	if !at.IsZero() {
		text = append(at.AppendFormat(text, stderrTime), ' ')
	}
	text = append(append(text, levelName(level)...), ' ')
	s.text = append(append(text, line...), '\n')
	_, err := s.w.Write(s.text)
	return err
}

// levelName returns the name of a level in lower case.
func levelName(level slog.Level) string {
	switch level {
	case slog.LevelInfo:
		return "info"
	case slog.LevelWarn:
		return "warn"
	}
	return strings.ToLower(level.String())
}
