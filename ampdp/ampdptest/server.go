package ampdptest

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

// patience is how long Await waits before it fails a test.
const patience = 30 * time.Second

// Server is an amavisd to test with. Its methods may be called at any time, by any
// goroutine.
type Server struct {
	network, address string

	mu       sync.Mutex
	changed  *sync.Cond // broadcast when anything below changed
	handler  Handler
	listener stoppable // nil while stopped
	stopped  chan struct{}
	paused   bool
	parked   bool // the accepting goroutine waits for Resume
	conns    map[*Conn]struct{}
	accepted int
	requests []*Request
	running  sync.WaitGroup
}

// NewServer starts a server on a local socket of its own; it ends with the test.
func NewServer(tb testing.TB, h Handler) *Server {
	tb.Helper()
	// Not tb.TempDir: its path holds the test's name, and 107 bytes are all that
	// fits into a socket address.
	dir, err := os.MkdirTemp("", "ampdptest-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return newServer(tb, "unix", filepath.Join(dir, "amavisd.sock"), h)
}

// NewTCPServer is NewServer on a TCP port of the loopback interface.
func NewTCPServer(tb testing.TB, h Handler) *Server {
	tb.Helper()
	return newServer(tb, "tcp", "127.0.0.1:0", h)
}

func newServer(tb testing.TB, network, address string, h Handler) *Server {
	tb.Helper()
	s, err := Listen(network, address, h)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// Listen starts a server at a given address ("unix", path or "tcp", host:port),
// for programs that are no tests.
func Listen(network, address string, h Handler) (*Server, error) {
	s := &Server{network: network, address: address, handler: h, conns: make(map[*Conn]struct{})}
	s.changed = sync.NewCond(&s.mu)
	if err := s.Start(); err != nil {
		return nil, err
	}
	return s, nil
}

// Network returns "unix" or "tcp".
func (s *Server) Network() string { return s.network }

// Address returns the path of the socket or host:port; it stays the same.
func (s *Server) Address() string { return s.address }

// Client returns a client for this server, with a timeout of half a minute.
func (s *Server) Client() *ampdp.Client {
	return &ampdp.Client{Network: s.network, Address: s.address, Timeout: patience}
}

// Handle changes the handler for connections that are accepted from now on.
func (s *Server) Handle(h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = h
}

// Requests returns all requests so far, in the order in which their ends were
// read.
func (s *Server) Requests() []*Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Request(nil), s.requests...)
}

// Accepted returns how many connections there have been.
func (s *Server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Open returns how many connections there are.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// AwaitRequests waits until n requests have been read to their end.
func (s *Server) AwaitRequests(tb testing.TB, n int) {
	tb.Helper()
	s.await(tb, fmt.Sprintf("%d requests", n), func() bool { return len(s.requests) >= n })
}

// AwaitAccepted waits until n connections have been accepted.
func (s *Server) AwaitAccepted(tb testing.TB, n int) {
	tb.Helper()
	s.await(tb, fmt.Sprintf("%d connections", n), func() bool { return s.accepted >= n })
}

// AwaitIdle waits until no connection is open.
func (s *Server) AwaitIdle(tb testing.TB) {
	tb.Helper()
	s.await(tb, "the end of all connections", func() bool { return len(s.conns) == 0 })
}

func (s *Server) await(tb testing.TB, what string, reached func() bool) {
	tb.Helper()
	late := false
	timer := time.AfterFunc(patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.changed.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !reached() {
		if late {
			tb.Fatalf("ampdptest: waited %v for %s: %d requests, %d connections, %d of them open",
				patience, what, len(s.requests), s.accepted, len(s.conns))
		}
		s.changed.Wait()
	}
}

func (s *Server) record(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	s.changed.Broadcast()
}
