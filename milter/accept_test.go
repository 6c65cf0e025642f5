package milter

import (
	"net"
	"os"
	"syscall"
	"testing"

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
			m, err := miltertest.New(conn, miltertest.Sendmail817)
			if err != nil {
				t.Fatal(err)
			}
			m.Greet()
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
