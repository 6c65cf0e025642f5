package logging

import (
	"log/slog"
	"strings"
	"testing"
)

// TestQueueIDAround: the queue id in front of a line at its bound.
func TestQueueIDAround(t *testing.T) {
	for n, want := range map[int]string{
		maxQueueID - 1: strings.Repeat("q", maxQueueID-1),
		maxQueueID:     strings.Repeat("q", maxQueueID),
		maxQueueID + 1: strings.Repeat("q", maxQueueID-len(cutMark)) + cutMark,
	} {
		got := logged(t, func(l *slog.Logger) { l.Info("text", QueueIDKey, strings.Repeat("q", n)) })
		if got != "info "+want+": text\n" {
			t.Errorf("a queue id of %d bytes: %q", n, got)
		}
	}
}

// TestSyslogLineAround: a line of syslog at its bound.
func TestSyslogLineAround(t *testing.T) {
	s, path, _ := newTestSyslog(t)
	l := listenDatagrams(t, path)
	for _, n := range []int{maxSyslogLine - 1, maxSyslogLine, maxSyslogLine + 1} {
		x := strings.Repeat("x", 800)
		slog.New(s).Info("", "a", x, "b", x, "c", strings.Repeat("x", n-2*len(x)-len("a= b= c=")))
		_, line, _ := strings.Cut(receive(t, l), "]: ")
		if len(line) != min(n, maxSyslogLine) || strings.HasSuffix(line, cutMark) != (n > maxSyslogLine) {
			t.Errorf("a line of %d bytes became one of %d, ending in %q", n, len(line), line[len(line)-5:])
		}
	}
}
