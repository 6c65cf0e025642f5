package lab

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
)

// syslogPath is where syslog(3) sends; /dev is the lab's own.
const syslogPath = "/dev/log"

// syslogLine splits what syslog(3) sends: "<22>Jan  2 15:04:05 ident[pid]: text".
var syslogLine = regexp.MustCompile(`(?s)^<(\d+)>(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d )?([^\s:\[]+)(?:\[\d+\])?: ?(.*)$`)

// LogLine is one line of the lab's system log.
type LogLine struct {
	Priority string // facility*8 + severity, decimal (RFC 5424 section 6.2.1)
	Ident    string // which program: "sendmail", "amavis", "amavis-milter"
	Text     string
	Raw      string // as it was sent
}

// Syslog collects what the lab's servers log.
type Syslog struct {
	conn  *net.UnixConn
	mu    sync.Mutex
	lines []LogLine
}

// StartSyslog listens on /dev/log.
func StartSyslog() (*Syslog, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: syslogPath, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listening for log lines: %w", err)
	}
	if err := os.Chmod(syslogPath, 0o666); err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetReadBuffer(4 << 20) // bytes; a burst must not block the servers
	s := &Syslog{conn: conn}
	go s.collect()
	return s, nil
}

func (s *Syslog) collect() {
	buffer := make([]byte, 128<<10) // bytes; longer than any line
	for {
		n, err := s.conn.Read(buffer)
		if err != nil {
			return
		}
		raw := strings.TrimRight(string(buffer[:n]), "\n\x00")
		line := LogLine{Raw: raw, Text: raw}
		if m := syslogLine.FindStringSubmatch(raw); m != nil {
			line = LogLine{Priority: m[1], Ident: m[2], Text: m[3], Raw: raw}
		}
		s.mu.Lock()
		s.lines = append(s.lines, line)
		s.mu.Unlock()
	}
}

// Mark returns a position in the log, for Since.
func (s *Syslog) Mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lines)
}

// Since returns the lines of one program since a mark; of all of them if ident
// is empty.
func (s *Syslog) Since(mark int, ident string) []LogLine {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []LogLine
	for _, line := range s.lines[min(mark, len(s.lines)):] {
		if ident == "" || line.Ident == ident {
			lines = append(lines, line)
		}
	}
	return lines
}

// Close ends the log; its lines stay readable.
func (s *Syslog) Close() error {
	err := s.conn.Close()
	os.Remove(syslogPath)
	return err
}
