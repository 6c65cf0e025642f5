package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// breakerPiece is how much a Breaker passes on at once, in bytes; faults that slow
// a connection down do so at each piece.
const breakerPiece = 16 << 10

// FaultKind is what happens to a connection that a Breaker passes on.
type FaultKind int

// The kinds of faults; the zero value is none.
const (
	FaultNone  FaultKind = iota
	FaultCut             // both ends are closed in order
	FaultReset           // both ends are closed, by RST where there is one
	FaultStall           // nothing passes for a time, then all does
	FaultSlow            // each piece waits for a time
)

// String is the name of the kind, as it stands in logs.
func (k FaultKind) String() string {
	return [...]string{"none", "cut", "reset", "stall", "slow"}[k]
}

// Fault is what happens to one connection, in one direction.
type Fault struct {
	Kind     FaultKind
	Backward bool          // in what the target sends, rather than in what is sent to it
	After    int64         // bytes that pass unharmed before
	Time     time.Duration // of FaultStall and, for each piece, of FaultSlow
}

// Breaker is a bad network: it passes connections on as they are until it is told
// to harm them. Where it cannot reach its target it hangs up at once.
type Breaker struct {
	listener        net.Listener
	network, target string
	wg              sync.WaitGroup
	harmed          atomic.Int64

	mu    sync.Mutex
	plan  func() Fault
	links map[*link]bool
}

// StartBreaker listens on an address such as "tcp" with host and port, or "unix" with
// a path, which accounts amavis and postfix may connect to then, and passes
// connections on to a target that is given likewise.
func StartBreaker(listenNetwork, address, network, target string) (*Breaker, error) {
	if listenNetwork == "unix" {
		if err := os.Remove(address); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	listener, err := net.Listen(listenNetwork, address)
	if err != nil {
		return nil, fmt.Errorf("starting a network that breaks: %w", err)
	}
	if listenNetwork == "unix" {
		if os.Geteuid() == 0 {
			err = os.Chown(address, amavisUID, postfixGID)
		}
		if err = errors.Join(err, os.Chmod(address, 0o660)); err != nil {
			listener.Close()
			return nil, err
		}
	}
	b := &Breaker{listener: listener, network: network, target: target, links: map[*link]bool{}}
	b.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			b.wg.Go(func() { b.pass(conn) })
		}
	})
	return b, nil
}

// Break has plan say what happens to each connection from now on; nil mends the
// network for new ones.
func (b *Breaker) Break(plan func() Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.plan = plan
}

// CutAll closes all connections, with RST if reset is set, and returns how many
// there were.
func (b *Breaker) CutAll(reset bool) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range b.links {
		l.close(reset)
	}
	b.harmed.Add(int64(len(b.links)))
	return len(b.links)
}

// Harmed is the number of times that a fault came true.
func (b *Breaker) Harmed() int64 { return b.harmed.Load() }

// Close ends the network and its connections.
func (b *Breaker) Close() error {
	err := b.listener.Close()
	b.CutAll(false)
	b.wg.Wait()
	return err
}

func (b *Breaker) pass(near net.Conn) {
	defer near.Close()
	far, err := net.Dial(b.network, b.target)
	if err != nil {
		return
	}
	defer far.Close()
	l := &link{near: near, far: far, closed: make(chan struct{})}
	b.mu.Lock()
	if b.plan != nil {
		l.fault = b.plan()
	}
	b.links[l] = true
	b.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.pump(l, far, near, false)
	}()
	b.pump(l, near, far, true)
	<-done
	b.mu.Lock()
	delete(b.links, l)
	b.mu.Unlock()
}

// pump passes on one direction until it ends.
func (b *Breaker) pump(l *link, to, from net.Conn, backward bool) {
	piece := make([]byte, breakerPiece)
	var fault Fault
	if l.fault.Backward == backward {
		fault = l.fault
	}
	var passed int64
	for {
		n, err := from.Read(piece)
		unharmed := n
		if fault.Kind != FaultNone && passed+int64(n) > fault.After {
			unharmed = int(max(0, fault.After-passed))
		}
		if _, err := to.Write(piece[:unharmed]); err != nil {
			l.close(false)
			return
		}
		if unharmed < n {
			b.harmed.Add(1)
			if !l.harm(&fault) {
				return
			}
			if _, err := to.Write(piece[unharmed:n]); err != nil {
				l.close(false)
				return
			}
		}
		passed += int64(n)
		if err != nil {
			if half, ok := to.(interface{ CloseWrite() error }); ok && errors.Is(err, io.EOF) {
				half.CloseWrite()
				return
			}
			l.close(false)
			return
		}
	}
}

// link is a connection with its two ends.
type link struct {
	near, far net.Conn
	fault     Fault
	once      sync.Once
	closed    chan struct{}
}

// harm has a fault come true and reports whether the connection lives on.
func (l *link) harm(fault *Fault) bool {
	switch fault.Kind {
	case FaultCut, FaultReset:
		l.close(fault.Kind == FaultReset)
		return false
	case FaultStall:
		defer func() { fault.Kind = FaultNone }()
	}
	select {
	case <-time.After(fault.Time):
		return true
	case <-l.closed:
		return false
	}
}

func (l *link) close(reset bool) {
	l.once.Do(func() {
		close(l.closed)
		for _, conn := range []net.Conn{l.near, l.far} {
			if tcp, ok := conn.(*net.TCPConn); ok && reset {
				tcp.SetLinger(0)
			}
			conn.Close()
		}
	})
}
