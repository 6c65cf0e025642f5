package logging

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const patience = 10 * time.Second // how long a test waits for what must come

// clock is the time of a test.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// newTestSyslog returns a handler for a socket in a directory of the test.
func newTestSyslog(t *testing.T) (s *Syslog, path string, c *clock) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "log")
	s = newSyslog("amavis-milter", 4711, slog.LevelDebug, []string{path + ".none", path})
	c = &clock{}
	s.sink.now = c.now
	t.Cleanup(func() { s.Close() })
	return s, path, c
}

func listenDatagrams(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// receive returns the next datagram.
func receive(t *testing.T, l *net.UnixConn) string {
	t.Helper()
	buffer := make([]byte, 64<<10)
	l.SetReadDeadline(time.Now().Add(patience))
	n, err := l.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}

func handle(s *Syslog, message string) error {
	return s.Handle(context.Background(), slog.NewRecord(time.Now(), slog.LevelInfo, message, 0))
}

func TestSyslogPackets(t *testing.T) {
	s, path, _ := newTestSyslog(t)
	l := listenDatagrams(t, path)
	log := slog.New(s)
	before := time.Now()
	log.Debug("d")
	log.Info("", "queue_id", "4B", "verdict", "accept", "from", "a\nb")
	log.Warn("w")
	log.Error("e")
	for _, want := range []string{"<23>_d", `<22>_4B: verdict=accept from="a\nb"`, "<20>_w", "<19>_e"} {
		got := receive(t, l)
		form := regexp.MustCompile(`^(<\d+>)([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) amavis-milter\[4711\]: `)
		m := form.FindStringSubmatch(got)
		if m == nil {
			t.Fatalf("not a packet of RFC 3164: %q", got)
		}
		if at, err := time.ParseInLocation(time.Stamp, m[2], time.Local); err != nil || at.Month() != before.Month() && before.Day() > 1 {
			t.Errorf("time %q: %v", m[2], err)
		}
		if line := m[1] + "_" + got[len(m[0]):]; line != want {
			t.Errorf("got %q, want %q", line, want)
		}
	}
}

func TestSyslogLimit(t *testing.T) {
	s, path, _ := newTestSyslog(t)
	l := listenDatagrams(t, path)
	long := strings.Repeat("x", 4*maxSyslogLine)
	slog.New(s).Info("", "a", long, "b", long, "c", long)
	_, line, _ := strings.Cut(receive(t, l), "]: ")
	if len(line) != maxSyslogLine || !strings.HasSuffix(line, cutMark) || !strings.Contains(line, " b=x") {
		t.Errorf("%d bytes: %.20q…%q", len(line), line, line[len(line)-5:])
	}
}

func TestSyslogOnAStream(t *testing.T) {
	s, path, _ := newTestSyslog(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	log := slog.New(s)
	log.Info("one")
	log.Info("two")
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	for r, want := bufio.NewReader(conn), 0; want < 2; want++ {
		line, err := r.ReadString('\n')
		if err != nil || !strings.HasSuffix(line, "]: "+[]string{"one\n", "two\n"}[want]) {
			t.Errorf("got %q, %v", line, err)
		}
	}
}

// TestSyslogMissingAndBack: lines are dropped and counted while there is no syslog;
// there is one attempt a second; afterwards one line says how many were lost.
func TestSyslogMissingAndBack(t *testing.T) {
	s, path, c := newTestSyslog(t)
	if err := handle(s, "first"); err == nil || errors.Is(err, errLost) {
		t.Fatalf("without syslog: %v, want the reason", err)
	}
	for i := range 4 {
		if err := handle(s, "in the pause"); !errors.Is(err, errLost) {
			t.Fatalf("line %d: %v, want no attempt", i, err)
		}
	}
	l := listenDatagrams(t, path)
	c.advance(retryPause / 2)
	if err := handle(s, "still in the pause"); !errors.Is(err, errLost) {
		t.Fatalf("%v, want no attempt", err)
	}
	c.advance(retryPause / 2)
	if err := handle(s, "back"); err != nil {
		t.Fatal(err)
	}
	if err := handle(s, "and on"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<20> syslog did not take log lines lost=6", "<22> back", "<22> and on"} {
		got := receive(t, l)
		priority, rest, _ := strings.Cut(got, ">")
		if _, line, _ := strings.Cut(rest, "]: "); priority+"> "+line != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestSyslogRestarted: a new syslog on the same path gets the very next line.
func TestSyslogRestarted(t *testing.T) {
	s, path, _ := newTestSyslog(t)
	old := listenDatagrams(t, path)
	if err := handle(s, "one"); err != nil {
		t.Fatal(err)
	}
	receive(t, old)
	old.Close()
	os.Remove(path)
	l := listenDatagrams(t, path)
	if err := handle(s, "two"); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, l); !strings.HasSuffix(got, "]: two") {
		t.Errorf("got %q", got)
	}
}

// TestSyslogHangs: a syslog that reads nothing costs one write timeout a second at
// most, and loses nothing but lines.
func TestSyslogHangs(t *testing.T) {
	s, path, c := newTestSyslog(t)
	l := listenDatagrams(t, path)
	sent := 0
	var err error
	for ; err == nil && sent < 100_000; sent++ {
		err = handle(s, fmt.Sprint("line ", sent))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("after %d lines: %v, want a timeout", sent, err)
	}
	start := time.Now()
	for range 1000 {
		if err := handle(s, "dropped"); !errors.Is(err, errLost) {
			t.Fatalf("%v, want no attempt", err)
		}
	}
	if took := time.Since(start); took > retryPause {
		t.Errorf("1000 dropped lines took %v", took)
	}
	for range sent - 1 {
		receive(t, l)
	}
	c.advance(retryPause)
	if err := handle(s, "back"); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, l); !strings.HasSuffix(got, "lost=1001") {
		t.Errorf("got %q", got)
	}
}

func TestSyslogClose(t *testing.T) {
	s, path, _ := newTestSyslog(t)
	l := listenDatagrams(t, path)
	if err := handle(s, "one"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil || s.sink.conn != nil {
			t.Fatalf("got %v", err)
		}
	}
	if err := handle(s, "two"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two"} {
		if got := receive(t, l); !strings.HasSuffix(got, want) {
			t.Errorf("got %q", got)
		}
	}
}

func TestSystemSyslog(t *testing.T) {
	s := NewSyslog("amavis-milter", 1, slog.LevelInfo)
	if len(s.sink.sockets) == 0 || s.sink.sockets[0] != "/dev/log" {
		t.Errorf("got %v", s.sink.sockets)
	}
	if s.Enabled(context.Background(), slog.LevelDebug) || !s.Enabled(context.Background(), slog.LevelInfo) {
		t.Error("the level is not kept")
	}
}
