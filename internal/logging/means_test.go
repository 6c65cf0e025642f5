package logging

import (
	"errors"
	"syscall"
	"testing"
)

// Without a descriptor for the connection lines are lost and counted, nothing more,
// and the log is back when there are descriptors.
func TestSyslogWithoutDescriptors(t *testing.T) {
	s, path, c := newTestSyslog(t)
	l := listenDatagrams(t, path)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	lost := handle(s, "lost")
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(lost, syscall.EMFILE) {
		t.Errorf("without descriptors: %v", lost)
	}
	c.advance(retryPause)
	if err := handle(s, "back"); err != nil {
		t.Fatal(err)
	}
	if got, want := receive(t, l), "lost=1"; got[len(got)-len(want):] != want {
		t.Errorf("got %q, want the number of lost lines", got)
	}
	receive(t, l)
}
