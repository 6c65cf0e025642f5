package milter

import (
	"context"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// This file has panics in goroutines that are no session's.

// faulty panics when it is read, once that is wanted.
type faulty struct {
	net.Conn
	armed *atomic.Bool
}

func (c faulty) Read(p []byte) (int, error) {
	if c.armed.Load() {
		panic("a bug in reading")
	}
	return c.Conn.Read(p)
}

// TestWatchPanics: a panic of who watches the MTA while it waits takes nothing from the
// message, which is answered. Then the connection ends.
func TestWatchPanics(t *testing.T) {
	var armed atomic.Bool
	log := &logBuffer{}
	h := &testHandler{verdict: func(context.Context) Verdict {
		armed.Store(true)
		for !strings.Contains(log.String(), "a bug in reading") {
			<-time.After(time.Millisecond)
		}
		armed.Store(false)
		return Accept()
	}}
	srv := NewServer(h, newTestLog(log), quickTimes())
	ours, theirs := net.Pipe()
	defer ours.Close()
	go srv.serveConn(faulty{theirs, &armed})
	m := greeted(t, ours, miltertest.Postfix37)
	a, err := m.SendMessage(plainMessage)
	mustAnswer(t, a, err, "accept")
	if _, _, err := m.Receive(); err == nil {
		t.Error("the connection goes on")
	}
	if o := <-h.transaction(t, 0).ended; o.Err != nil || o.Sent.Disposition() != DispositionAccept {
		t.Errorf("it ended with %v, %v", o.Sent.Disposition(), o.Err)
	}
}

// TestWakingPanics: a connection whose waking panics is closed, and not counted any more.
func TestWakingPanics(t *testing.T) {
	b := drowsy(t, &testHandler{}, DefaultTimes())
	m := b.mta(t, miltertest.Postfix37)
	until(t, "asleep", func() bool { return b.dormitory.asleep() == 1 })
	b.dormitory.mu.Lock()
	for _, bed := range b.dormitory.beds {
		bed.g.doze.session = nil // which the library's beginning needs
	}
	b.dormitory.mu.Unlock()
	m.Send('C', []byte("host\x004\x00\x19192.0.2.1\x00"))
	if _, _, err := m.Receive(); err == nil {
		t.Error("the connection goes on")
	}
	until(t, "gone", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.conns) == 0
	})
	if !strings.Contains(b.log.String(), "panic") {
		t.Errorf("log: %s", b.log)
	}
}

// TestSetEnds: when what waits for connections that doze ends by itself, be it because the
// poller did not take it, they are woken and doze no more.
func TestSetEnds(t *testing.T) {
	b := startServerOn(t, "unix", &testHandler{}, DefaultTimes(), func(srv *Server) {
		srv.dormitory.after = time.Millisecond
		fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		// One that may block is nothing for the poller.
		s := &readySet{file: os.NewFile(uintptr(fd), "epoll")}
		if s.conn, err = s.file.SyscallConn(); err != nil {
			t.Fatal(err)
		}
		srv.dormitory.set, srv.dormitory.beds = s, map[uint64]bed{}
	})
	m := b.mta(t, miltertest.Postfix37)
	until(t, "asleep", func() bool { return b.dormitory.asleep() == 1 })
	go b.dormitory.run(b.dormitory.set)
	until(t, "awake", func() bool { return b.dormitory.asleep() == 0 })
	m.Greet()
	a, err := m.SendMessage(plainMessage)
	mustAnswer(t, a, err, "accept")
	if !strings.Contains(b.log.String(), "what waited for them has ended") {
		t.Errorf("log: %s", b.log)
	}
}
