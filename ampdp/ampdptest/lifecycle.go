package ampdptest

import (
	"bufio"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// stoppable is what both kinds of listeners can do.
type stoppable interface {
	net.Listener
	SetDeadline(time.Time) error
	SyscallConn() (syscall.RawConn, error)
}

var (
	_ stoppable = (*net.UnixListener)(nil)
	_ stoppable = (*net.TCPListener)(nil)
)

// Start lets a stopped server come back at its address. It does nothing to a
// running one.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return nil
	}
	if s.network == "unix" { // Kill leaves it behind
		if err := os.Remove(s.address); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	l, err := net.Listen(s.network, s.address)
	if err != nil {
		return err
	}
	s.listener = l.(stoppable)
	s.address = l.Addr().String()
	s.stopped = make(chan struct{})
	s.paused = false
	s.running.Add(1)
	go s.accept(s.listener, s.stopped)
	return nil
}

// Stop closes the listener and all connections and waits for the handlers to end.
// A local socket disappears: further connects fail with ENOENT, those to a TCP
// port with ECONNREFUSED.
func (s *Server) Stop() { s.stop(true) }

// Kill is Stop, but leaves a local socket behind as a process that was killed
// does: further connects fail with ECONNREFUSED.
func (s *Server) Kill() { s.stop(false) }

// Close stops the server for good.
func (s *Server) Close() {
	s.Stop()
	if s.network == "unix" {
		os.Remove(s.address)
	}
}

func (s *Server) stop(unlink bool) {
	s.mu.Lock()
	if s.listener == nil {
		s.mu.Unlock()
		return
	}
	if l, ok := s.listener.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(unlink)
	}
	s.listener.Close()
	s.listener = nil
	close(s.stopped)
	s.changed.Broadcast()
	for c := range s.conns {
		c.Conn.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// Pause lets further connections wait in the backlog, which it shortens to n; the
// kernel lets n+1 wait. After that a local socket answers EAGAIN.
func (s *Server) Pause(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return net.ErrClosed
	}
	s.paused = true
	if err := s.listener.SetDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	// One Accept may still be on its way.
	for !s.parked && s.listener != nil {
		s.changed.Wait()
	}
	if s.listener == nil {
		return net.ErrClosed
	}
	return s.backlog(n)
}

// Resume ends a Pause and takes in what waits.
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return net.ErrClosed
	}
	if err := s.backlog(syscall.SOMAXCONN); err != nil {
		return err
	}
	if err := s.listener.SetDeadline(time.Time{}); err != nil {
		return err
	}
	s.paused = false
	s.changed.Broadcast()
	return nil
}

// backlog changes the backlog of the listener: listen(2) may be called again.
func (s *Server) backlog(n int) error {
	raw, err := s.listener.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), n) }); err != nil {
		return err
	}
	return failed
}

// accept takes in connections until the listener is closed.
func (s *Server) accept(l net.Listener, stopped <-chan struct{}) {
	defer s.running.Done()
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			s.serve(conn, stopped)
		case errors.Is(err, os.ErrDeadlineExceeded):
			if !s.awaitResume(stopped) {
				return
			}
		default:
			return
		}
	}
}

// awaitResume waits for the end of a Pause and reports whether the server still
// runs.
func (s *Server) awaitResume(stopped <-chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parked = true
	s.changed.Broadcast()
	defer func() { s.parked = false }()
	for {
		select {
		case <-stopped:
			return false
		default:
		}
		if !s.paused {
			return true
		}
		s.changed.Wait()
	}
}

// serve plays the current handler on one connection.
func (s *Server) serve(conn net.Conn, stopped <-chan struct{}) {
	c := &Conn{Conn: conn, server: s, done: stopped, reader: bufio.NewReader(conn)}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-stopped: // accepted just before, and too late for Stop to see
		conn.Close()
		return
	default:
	}
	s.accepted++
	s.conns[c] = struct{}{}
	s.changed.Broadcast()
	h := s.handler
	s.running.Add(1)
	go s.play(c, h)
}

func (s *Server) play(c *Conn, h Handler) {
	defer s.running.Done()
	defer func() {
		c.Conn.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
		s.changed.Broadcast()
	}()
	h(c)
}
