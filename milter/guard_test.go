package milter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// synthetic runs f with a server on a net.Pipe in fake time.
func synthetic(t *testing.T, handler *testHandler, f func(t *testing.T, b *bench, conn net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		log := &logBuffer{}
		b := &bench{Server: NewServer(handler, newTestLog(log), DefaultTimes()), handler: handler, log: log}
		ours, theirs := net.Pipe()
		go b.serveConn(theirs)
		f(t, b, ours)
		ours.Close()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		b.Shutdown(ctx)
		synctest.Wait()
	})
}

func TestLateNegotiation(t *testing.T) {
	synthetic(t, &testHandler{}, func(t *testing.T, b *bench, conn net.Conn) {
		time.Sleep(30 * time.Second) // fake time; a loaded MTA may take it
		if _, err := miltertest.New(conn, miltertest.Sendmail817); err != nil {
			t.Error(err)
		}
	})
	synthetic(t, &testHandler{}, func(t *testing.T, b *bench, conn net.Conn) {
		time.Sleep(2 * time.Minute) // fake time; who takes that long is no MTA
		if _, err := miltertest.New(conn, miltertest.Sendmail817); err == nil {
			t.Error("negotiated after the time for it")
		}
	})
}

// TestHalfAFrame: once a frame has begun it has to end; between frames the MTA may
// be silent as long as a slow SMTP client is.
func TestHalfAFrame(t *testing.T) {
	synthetic(t, &testHandler{}, func(t *testing.T, b *bench, conn net.Conn) {
		m, err := miltertest.New(conn, miltertest.Sendmail817)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour) // fake time; SMTP clients may be that slow
		if err := m.Greet(); err != nil {
			t.Fatalf("after a long silence: %v", err)
		}
		m.SendRaw([]byte{0, 0, 0})
		time.Sleep(2 * time.Minute) // fake time; an MTA writes a frame at once
		m.Timeout = time.Second
		if _, _, err := m.Receive(); err != io.EOF {
			t.Errorf("after half a frame: %v, want the connection closed", err)
		}
		if !strings.Contains(b.log.String(), "frame not complete in time") {
			t.Errorf("log: %s", b.log)
		}
	})
	synthetic(t, &testHandler{}, func(t *testing.T, b *bench, conn net.Conn) {
		m, err := miltertest.New(conn, miltertest.Sendmail817)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(DefaultTimes().Idle + time.Second) // fake time
		m.Timeout = time.Second
		if _, _, err := m.Receive(); err != io.EOF {
			t.Errorf("after the longest silence: %v, want the connection closed", err)
		}
	})
}

// TestProgress: packets go out through the whole phase, to every version, and
// stop when the verdict is there.
func TestProgress(t *testing.T) {
	for _, o := range []miltertest.Offer{miltertest.Sendmail817, miltertest.Version2} {
		h := &testHandler{verdict: func(ctx context.Context) Verdict {
			time.Sleep(9*DefaultTimes().Progress + time.Second) // fake time
			return Accept(AddHeader{"X-A", "b"})
		}}
		synthetic(t, h, func(t *testing.T, b *bench, conn net.Conn) {
			m := greeted(t, conn, o)
			m.Timeout = time.Minute
			a, err := m.SendMessage(plainMessage)
			if err != nil || a.Code != 'a' || len(a.Changes) != 1 || a.Progress != 9 {
				t.Errorf("version %d: answer %q after %d progress packets, %v; want 9", o.Version, a, a.Progress, err)
			}
		})
	}
}

// TestVerdictLate: a handler that does not come back, as on a disk that hangs, costs
// its message a tempfail and nothing else. Its transaction ends when it does.
func TestVerdictLate(t *testing.T) {
	release := make(chan struct{})
	cause := make(chan error, 1)
	h := &testHandler{}
	h.verdict = func(ctx context.Context) Verdict {
		<-release
		cause <- context.Cause(ctx)
		return Accept()
	}
	synthetic(t, h, func(t *testing.T, b *bench, conn net.Conn) {
		release, cause = make(chan struct{}), make(chan error, 1) // of the bubble
		m, err := miltertest.New(conn, miltertest.Postfix37)
		if err != nil {
			t.Fatal(err)
		}
		m.Timeout = time.Hour
		m.Greet()
		start := time.Now()
		a, err := m.SendMessage(plainMessage)
		mustAnswer(t, a, err, "reply 451 4.3.0 Content filter failure, try again later")
		if took := time.Since(start); took != DefaultTimes().Verdict+lateGrace {
			t.Errorf("answered after %v", took)
		}
		for range 2 {
			a, err = m.SendMessage(plainMessage)
			mustAnswer(t, a, err, "reply 451 4.3.0 Content filter failure, try again later")
		}
		if len(h.transaction(t, 0).ended) != 0 {
			t.Error("the late transaction was ended while its Verdict ran")
		}
		close(release)
		if err := <-cause; !errors.Is(err, ErrVerdictLate) {
			t.Errorf("cause %v", err)
		}
		if o := <-h.transaction(t, 0).ended; !errors.Is(o.Err, ErrVerdictLate) || o.Sent.Disposition() != DispositionTempFail {
			t.Errorf("outcome %+v", o)
		}
		if _, _, err := m.Receive(); err != io.EOF {
			t.Errorf("after the late Verdict: %v, want the connection closed", err)
		}
	})
}

// TestVerdictCalledOff: a handler that comes back when it is called off gives the answer
// itself, and the next message has all its time.
func TestVerdictCalledOff(t *testing.T) {
	h := &testHandler{}
	h.verdict = func(ctx context.Context) Verdict {
		if h.count() > 1 {
			time.Sleep(time.Second) // fake time
			if ctx.Err() == nil {
				return Accept()
			}
		}
		<-ctx.Done()
		return Discard()
	}
	synthetic(t, h, func(t *testing.T, b *bench, conn net.Conn) {
		m, err := miltertest.New(conn, miltertest.Postfix37)
		if err != nil {
			t.Fatal(err)
		}
		m.Timeout = time.Hour
		m.Greet()
		for _, want := range []string{"discard", "accept", "accept"} {
			a, err := m.SendMessage(plainMessage)
			mustAnswer(t, a, err, want)
		}
	})
}

// TestHangUpDuringVerdict: an MTA that hangs up ends the wait at once, with and
// without bytes behind the end of the message. On an inet socket the answer can
// still be written; nobody reads it, and the outcome says so.
func TestHangUpDuringVerdict(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		for _, rest := range []string{"", "\x00\x00\x00\x01A", "\x00\x00\x00\x01Q"} {
			t.Run(fmt.Sprintf("%s %q", network, rest), func(t *testing.T) { hangUp(t, network, rest) })
		}
	}
}

func hangUp(t *testing.T, network, rest string) {
	waited := make(chan error, 1)
	h := &testHandler{verdict: func(ctx context.Context) Verdict {
		<-ctx.Done()
		waited <- context.Cause(ctx)
		return TempFail(replyFailure)
	}}
	b := startServerOn(t, network, h, quickTimes())
	m := b.mta(t, miltertest.Postfix37)
	m.Greet()
	m.SendUpTo(plainMessage, "eom")
	m.SendRaw(append(miltertest.Frame('E', nil), rest...))
	until(t, "the verdict is asked for", func() bool { return h.count() == 1 })
	m.Conn.Close()
	if err := <-waited; !errors.Is(err, ErrPeerGone) {
		t.Errorf("cause %v", err)
	}
	if o := outcome(t, h.transaction(t, 0)); !errors.Is(o.Err, ErrPeerGone) || o.Sent.Disposition() != 0 {
		t.Errorf("outcome %+v: nobody read the answer", o)
	}
}

// TestPipelinedBehindEnd: what an MTA sends while it ought to wait is not lost.
func TestPipelinedBehindEnd(t *testing.T) {
	b := startServer(t, &testHandler{verdict: func(ctx context.Context) Verdict {
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
		return Accept()
	}}, quickTimes())
	m := b.mta(t, miltertest.Postfix37)
	m.Greet()
	m.SendUpTo(plainMessage, "eom")
	m.Send('E', nil)
	m.Abort()
	m.SendUpTo(plainMessage, "eom")
	m.Send('E', nil)
	for range 2 {
		a, err := m.Answer()
		mustAnswer(t, a, err, "accept")
	}
}

// TestOneWrite: all changes and the answer leave in one write.
func TestOneWrite(t *testing.T) {
	changes := make([]Change, 10)
	for i := range changes {
		changes[i] = AddHeader{fmt.Sprint("X-", i), "v"}
	}
	h := &testHandler{verdict: func(context.Context) Verdict { return Accept(changes...) }}
	b := &bench{Server: NewServer(h, newTestLog(io.Discard), quickTimes()), handler: h}
	ours, theirs := net.Pipe()
	counted := &countingConn{Conn: theirs}
	go b.serveConn(counted)
	m, err := miltertest.New(ours, miltertest.Sendmail817)
	if err != nil {
		t.Fatal(err)
	}
	m.Greet()
	m.SendUpTo(plainMessage, "eom")
	before := counted.writes.Load()
	a, err := m.EOM()
	if err != nil || len(a.Changes) != 10 {
		t.Fatal(a, err)
	}
	m.Quit()
	outcome(t, h.transaction(t, 0))
	if n := counted.writes.Load() - before; n != 1 {
		t.Errorf("%d writes, want 1", n)
	}
}

// countingConn counts reads and writes.
type countingConn struct {
	net.Conn
	reads, writes atomic.Int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.Conn.Read(p)
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// TestReadAhead: a burst of frames is a read or two, not two a frame.
func TestReadAhead(t *testing.T) {
	h := &testHandler{}
	srv := NewServer(h, newTestLog(io.Discard), quickTimes())
	ours, theirs := socketPair()
	defer ours.Close()
	counted := &countingConn{Conn: theirs}
	go srv.serveConn(counted)
	m, err := miltertest.New(ours, miltertest.Sendmail817)
	if err != nil {
		t.Fatal(err)
	}
	m.Mail("<a@x>")
	m.Rcpt("<b@y>")
	before := counted.reads.Load()
	if err := sendBurst(m); err != nil {
		t.Fatal(err)
	}
	if n := counted.reads.Load() - before; n > 6 {
		t.Errorf("%d reads for a burst of %d frames", n, burstFrames)
	}
	if n := len(h.transaction(t, 0).header); n != burstFrames-1 {
		t.Errorf("%d header fields", n)
	}
}

// failingListener fails to accept as a process without descriptors does.
type failingListener struct {
	net.Listener
	failures atomic.Int64
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "unix", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// TestAcceptFails: a lack of descriptors makes the server neither deaf nor loud.
func TestAcceptFails(t *testing.T) {
	inner, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	ln := &failingListener{Listener: inner}
	ln.failures.Store(7)
	log := &logBuffer{}
	srv := NewServer(&testHandler{}, newTestLog(log), quickTimes())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	conn, err := net.Dial("unix", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	m := greeted(t, conn, miltertest.Sendmail817)
	a, err := m.SendMessage(plainMessage)
	mustAnswer(t, a, err, "accept")
	if n := strings.Count(log.String(), "cannot accept"); n != 1 {
		t.Errorf("%d log lines, want one a minute", n)
	}
	m.Quit()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
