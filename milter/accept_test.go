package milter

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// inTurnListener fails to accept with one error after the other.
type inTurnListener struct {
	net.Listener
	errs []syscall.Errno
}

func (l *inTurnListener) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		errno := l.errs[0]
		l.errs = l.errs[1:]
		return nil, &net.OpError{Op: "accept", Net: "unix", Err: os.NewSyscallError("accept4", errno)}
	}
	return l.Listener.Accept()
}

// TestAcceptFailsInAnyWay: whatever the process, the host or a peer is short of, the
// server goes on accepting; an accept has no error that is for ever.
func TestAcceptFailsInAnyWay(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENFILE, syscall.EMFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPERM, syscall.EPROTO} {
		t.Run(errno.Error(), func(t *testing.T) {
			inner, err := net.Listen("unix", t.TempDir()+"/s")
			if err != nil {
				t.Fatal(err)
			}
			srv := NewServer(&testHandler{}, newTestLog(&logBuffer{}), quickTimes())
			served := make(chan error, 1)
			go func() { served <- srv.Serve(&inTurnListener{inner, []syscall.Errno{errno, errno}}) }()
			conn, err := net.Dial("unix", inner.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			m := greeted(t, conn, miltertest.Sendmail817)
			a, err := m.SendMessage(plainMessage)
			mustAnswer(t, a, err, "accept")
			m.Quit()
			if err := srv.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// hopelessListener fails to accept as often as it is told, lets one connection in, fails
// as often again, and is closed then. It notes when it is asked.
type hopelessListener struct {
	failures int
	asked    []time.Time
}

func (l *hopelessListener) Accept() (net.Conn, error) {
	l.asked = append(l.asked, time.Now())
	switch len(l.asked) {
	case l.failures + 1:
		ours, theirs := net.Pipe()
		ours.Close()
		return theirs, nil
	case 2*l.failures + 2:
		return nil, net.ErrClosed
	}
	return nil, &net.OpError{Op: "accept", Net: "unix", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
}

func (l *hopelessListener) Close() error   { return nil }
func (l *hopelessListener) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// TestAcceptPauses: the pause after a failed accept doubles from the first to the last,
// and begins anew when one has succeeded.
func TestAcceptPauses(t *testing.T) {
	want := []time.Duration{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000} // ms; docs/SECURITY.md
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(&testHandler{}, newTestLog(&logBuffer{}), DefaultTimes())
		defer srv.Close()
		srv.dormitory.close() // what waits for the system stops fake time
		ln := &hopelessListener{failures: len(want)}
		if err := srv.Serve(ln); !errors.Is(err, net.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
		for turn := range 2 {
			asked := ln.asked[turn*(len(want)+1):]
			for i, ms := range want {
				if got := asked[i+1].Sub(asked[i]); got != ms*time.Millisecond {
					t.Errorf("turn %d, failure %d: the pause is %v, want %d ms", turn, i, got, ms)
				}
			}
		}
	})
}
