package logging

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"
)

// maxSyslogLine is the longest line for syslog in bytes, without priority, time and
// ident. RFC 3164 section 4.1 speaks of 1024 for a whole packet; rsyslog and
// syslog-ng take 8192, journald more.
const maxSyslogLine = 2 << 10

// syslogTime is the TIMESTAMP of RFC 3164 section 4.1.2, in local time.
const syslogTime = time.Stamp

// facilityMail is LOG_MAIL of syslog(3).
const facilityMail = 2 << 3

// Severities of syslog(3).
const (
	severityError   = 3 // LOG_ERR
	severityWarning = 4 // LOG_WARNING
	severityInfo    = 6 // LOG_INFO
	severityDebug   = 7 // LOG_DEBUG
)

// syslogSockets are where syslog listens: Linux first, then the BSDs.
var syslogSockets = []string{"/dev/log", "/var/run/log", "/var/run/syslog"}

// Syslog is a handler that writes to the local syslog with the facility mail.
//
// A syslog that is missing or hangs never stops the daemon: lines are then dropped
// and counted, a new attempt is made once a second, and the first line afterwards
// says how many were lost.
type Syslog struct {
	*Handler
	sink *syslogSink
}

// NewSyslog returns a handler for the local syslog. ident and pid stand before
// each line, as in "amavis-milter[4711]: ". It connects with the first line.
func NewSyslog(ident string, pid int, level slog.Leveler) *Syslog {
	return newSyslog(ident, pid, level, syslogSockets)
}

func newSyslog(ident string, pid int, level slog.Leveler, sockets []string) *Syslog {
	s := &syslogSink{tag: fmt.Sprintf(" %s[%d]: ", ident, pid), sockets: sockets, outage: outage{now: time.Now}}
	return &Syslog{newHandler(s, level), s}
}

// Close closes the connection to syslog. A later line opens it again.
func (s *Syslog) Close() error {
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	s.sink.disconnect()
	return nil
}

type syslogSink struct {
	tag     string
	sockets []string

	mu sync.Mutex
	outage
	conn net.Conn
	end  string // what ends a line: LF on a stream, nothing in a datagram
	text []byte // of the last packet, kept for its memory
}

func (s *syslogSink) limit() int { return maxSyslogLine }

func (s *syslogSink) write(at time.Time, level slog.Level, line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pauses() {
		s.lost++
		return errLost
	}
	if at.IsZero() {
		at = s.now()
	}
	err := s.send(at, level, line)
	if err != nil {
		s.lost++
		s.pause()
	}
	return err
}

// send writes the line, and before it how many were lost. A connection that was
// open already may have been left by a syslog that was restarted: then a new one
// is tried at once.
func (s *syslogSink) send(at time.Time, level slog.Level, line []byte) error {
	stale := s.conn != nil
	err := s.sendOnce(at, level, line)
	var timeout net.Error
	if err == nil || !stale || errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	return s.sendOnce(at, level, line)
}

func (s *syslogSink) sendOnce(at time.Time, level slog.Level, line []byte) error {
	if s.conn == nil {
		if err := s.connect(); err != nil {
			return err
		}
	}
	if s.lost > 0 {
		if err := s.packet(at, slog.LevelWarn, s.notice("syslog")); err != nil {
			return err
		}
		s.lost = 0
	}
	return s.packet(at, level, line)
}

// packet writes one line in one write. A connection that failed is not used again:
// on a stream half a line may have been written.
func (s *syslogSink) packet(at time.Time, level slog.Level, line []byte) error {
	priority := facilityMail | severity(level)
	text := append(strconv.AppendInt(append(s.text[:0], '<'), int64(priority), 10), '>')
	text = append(at.AppendFormat(text, syslogTime), s.tag...)
	s.text = append(append(text, line...), s.end...)
	err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		_, err = s.conn.Write(s.text)
	}
	if err != nil {
		s.disconnect()
		return fmt.Errorf("writing to syslog: %w", err)
	}
	return nil
}

func (s *syslogSink) connect() error {
	var failures []error
	for _, path := range s.sockets {
		for _, network := range []string{"unixgram", "unix"} {
			conn, err := net.DialTimeout(network, path, writeTimeout)
			if err != nil {
				failures = append(failures, err)
				continue
			}
			s.conn, s.end = conn, ""
			if network == "unix" {
				s.end = "\n"
			}
			return nil
		}
	}
	return fmt.Errorf("connecting to syslog: %w", errors.Join(failures...))
}

func (s *syslogSink) disconnect() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

func severity(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return severityError
	case level >= slog.LevelWarn:
		return severityWarning
	case level >= slog.LevelInfo:
		return severityInfo
	}
	return severityDebug
}
