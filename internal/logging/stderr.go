package logging

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// maxStderrLine is the longest line on stderr in bytes, without time and level.
const maxStderrLine = 8 << 10

// stderrTime is the form of the time on stderr: RFC 3339 with milliseconds.
const stderrTime = "2006-01-02T15:04:05.000Z07:00"

// waitParts is how many parts the wait of writeTimeout has.
const waitParts = 10

// errLate says that a write takes longer than we wait. It may still succeed.
var errLate = errors.New("writing to stderr takes too long")

// NewStderr returns a handler that writes lines with time and level to w.
//
// A pipe, socket or terminal that nobody reads never stops the daemon: the line that
// it did not take is written when it does, those that come meanwhile are dropped and
// counted, and the first line afterwards says how many.
func NewStderr(w io.Writer, level slog.Leveler) *Handler {
	return newHandler(newStderrSink(w), level)
}

func newStderrSink(w io.Writer) *stderrSink {
	s := &stderrSink{w: w, outage: outage{now: time.Now}}
	if canHang(w) {
		s.done = make(chan written, 1)
		s.timer = time.NewTimer(writeTimeout)
		s.timer.Stop()
	}
	return s
}

// canHang reports whether a write to w may last for as long as somebody likes.
func canHang(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err != nil || !info.Mode().IsRegular()
}

// stderrSink writes each line by itself, and to a file that can hang in a goroutine.
// There is no other way that holds for all of them: others write to the same file, so
// we must not make it non-blocking, and may find it full although it had room before.
type stderrSink struct {
	w     io.Writer
	done  chan written // of a write in a goroutine; nil if w cannot hang
	timer *time.Timer  // for writeTimeout

	mu sync.Mutex
	outage
	late bool   // the last write goes on: text is the goroutine's
	torn bool   // what was written last is the beginning of a line
	text []byte // of the last write, kept for its memory
	told int    // how many lost lines text tells of
	head int    // in so many bytes before the line itself
}

// written is what a write returned.
type written struct {
	n   int
	err error
}

func (s *stderrSink) limit() int { return maxStderrLine }

func (s *stderrSink) write(at time.Time, level slog.Level, line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done != nil && (s.isLate() || s.pauses()) {
		s.lost++
		return errLost
	}
	text := s.text[:0]
	if s.torn {
		text = append(text, '\n')
	}
	if s.lost > 0 {
		text = appendLine(text, at, slog.LevelWarn, s.notice("stderr"))
	}
	s.head, s.told, s.lost = len(text), s.lost, 0
	s.text = appendLine(text, at, level, line)
	if s.done == nil {
		return s.account(s.push())
	}
	return s.writeInTime()
}

// appendLine appends a line as it is written.
func appendLine(text []byte, at time.Time, level slog.Level, line []byte) []byte {
	if !at.IsZero() {
		text = append(at.AppendFormat(text, stderrTime), ' ')
	}
	text = append(append(text, levelName(level)...), ' ')
	return append(append(text, line...), '\n')
}

// writeInTime writes text, and leaves it to itself if that lasts. It waits in parts, so
// that a halt of all the machine does not count as one of who reads.
func (s *stderrSink) writeInTime() error {
	go func() { s.done <- s.push() }()
	defer s.timer.Stop()
	for range waitParts {
		s.timer.Reset(writeTimeout / waitParts)
		select {
		case result := <-s.done:
			return s.account(result)
		case <-s.timer.C:
		}
	}
	s.late = true
	s.pause()
	return errLate
}

// isLate reports whether the last write still goes on.
func (s *stderrSink) isLate() bool {
	if s.late {
		select {
		case result := <-s.done:
			s.late = false
			_ = s.account(result) // nobody waits for it any more
		default:
		}
	}
	return s.late
}

func (s *stderrSink) push() written {
	n, err := s.w.Write(s.text)
	return written{n, err}
}

// account keeps what has become of text.
func (s *stderrSink) account(result written) error {
	if result.n > 0 {
		s.torn = s.text[result.n-1] != '\n'
	}
	if result.err == nil {
		return nil
	}
	s.lost++
	if result.n < s.head {
		s.lost += s.told
	}
	return result.err
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
