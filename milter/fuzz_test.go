package milter

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// countingHandler checks that every transaction is ended exactly once.
type countingHandler struct {
	begun, ended, twice atomic.Int64
}

type countingTransaction struct {
	h     *countingHandler
	ended atomic.Bool
}

func (h *countingHandler) Begin(*Envelope) Transaction {
	h.begun.Add(1)
	return &countingTransaction{h: h}
}

func (tx *countingTransaction) Header(string, string) {}
func (tx *countingTransaction) EndHeader()            {}
func (tx *countingTransaction) Body([]byte)           {}
func (tx *countingTransaction) Verdict(context.Context) Verdict {
	return Accept(AddHeader{"X-A", "v"}, DeleteHeader{1, "X-B"})
}
func (tx *countingTransaction) End(Outcome) {
	if tx.ended.Swap(true) {
		tx.h.twice.Add(1)
	}
	tx.h.ended.Add(1)
}

// transcript records what the scripted MTA sends in a dialogue.
func transcript(o miltertest.Offer, dialogue func(m *miltertest.MTA)) []byte {
	ours, theirs := socketPair()
	srv := NewServer(&countingHandler{}, newTestLog(io.Discard), quickTimes())
	go srv.serveConn(theirs)
	rec := &recorder{Conn: ours}
	m, err := miltertest.New(rec, o)
	if err != nil {
		panic(err)
	}
	dialogue(m)
	m.Quit()
	return rec.sent.Bytes()
}

type recorder struct {
	net.Conn
	sent bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.sent.Write(p)
	return r.Conn.Write(p)
}

// socketPair returns two ends of a connection that, unlike a net.Pipe, takes what
// is written before it is read.
func socketPair() (a, b *net.UnixConn) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		c, err := net.FileConn(f)
		if err != nil {
			panic(err)
		}
		f.Close()
		conns[i] = c.(*net.UnixConn)
	}
	return conns[0], conns[1]
}

// maxPieces bounds the writes of one input, for speed.
const maxPieces = 50

// FuzzConnection feeds the guard and the library behind it with any bytes, in
// pieces of any size: the process lives, the connection ends, and every message
// that was begun is ended once.
func FuzzConnection(f *testing.F) {
	whole := func(m *miltertest.MTA) { m.Greet(); m.SendMessage(plainMessage) }
	for _, o := range []miltertest.Offer{miltertest.Sendmail817, miltertest.Version2, {Version: 9, Actions: 1<<32 - 1, Protocol: 1<<32 - 1}} {
		f.Add(transcript(o, whole), uint16(4096))
		f.Add(transcript(o, func(m *miltertest.MTA) { whole(m); m.Abort(); whole(m); m.Send('K', nil); whole(m) }), uint16(1))
		f.Add(transcript(o, func(m *miltertest.MTA) {
			m.Greet()
			m.SendUpTo(plainMessage, "body")
			m.Abort()
			m.Send('E', []byte("x"))
			m.Answer()
		}), uint16(7))
	}
	for _, c := range deadlyFrames {
		seed := c.bytes
		if c.negotiate {
			seed = append(transcript(miltertest.Sendmail817, func(*miltertest.MTA) {})[:17], seed...)
		}
		f.Add(seed, uint16(3))
	}
	f.Fuzz(func(t *testing.T, input []byte, piece uint16) {
		h := &countingHandler{}
		srv := NewServer(h, newTestLog(io.Discard), quickTimes())
		ours, theirs := socketPair()
		go srv.serveConn(theirs)
		var reader sync.WaitGroup
		reader.Go(func() { io.Copy(io.Discard, ours) })
		for rest := input; len(rest) > 0; {
			n := min(len(rest), max(int(piece), len(input)/maxPieces)+1)
			if _, err := ours.Write(rest[:n]); err != nil {
				break
			}
			rest = rest[n:]
		}
		ours.CloseWrite()
		reader.Wait()
		ours.Close()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Fatalf("shutdown: %v", err)
		}
		if b, e := h.begun.Load(), h.ended.Load(); b != e || h.twice.Load() != 0 {
			t.Fatalf("%d transactions begun, %d ended, %d twice", b, e, h.twice.Load())
		}
	})
}
