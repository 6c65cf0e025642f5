package milter

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// TestShutdown: idle connections end at once, a message after DATA gets its
// verdict, and what is unfinished at the deadline is tempfailed or cut.
func TestShutdown(t *testing.T) {
	release := make(chan struct{})
	h := &testHandler{verdict: func(ctx context.Context) Verdict {
		select {
		case <-release:
			return Accept()
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), ErrServerClosed) {
				return Discard()
			}
			return TempFail(replyFailure)
		}
	}}
	b := startServer(t, h, quickTimes())
	fresh := b.dial(t)
	idle := b.mta(t, miltertest.Postfix37)
	idle.Greet()
	envelope := b.mta(t, miltertest.Postfix37)
	envelope.Greet()
	envelope.SendUpTo(plainMessage, "data")
	content := b.mta(t, miltertest.Postfix37)
	content.Greet()
	content.SendUpTo(plainMessage, "body")
	waiting := b.mta(t, miltertest.Postfix37)
	waiting.Greet()
	waiting.SendUpTo(plainMessage, "eom")
	waiting.Send('E', nil)
	half := b.mta(t, miltertest.Postfix37)
	half.Greet()
	half.SendUpTo(plainMessage, "body")
	until(t, "three messages are begun", func() bool { return h.count() == 3 })
	until(t, "all connections are known", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.conns) == 6 })

	ctx, cancel := context.WithCancel(context.Background())
	down := make(chan error, 1)
	go func() { down <- b.Shutdown(ctx) }()
	for name, m := range map[string]*miltertest.MTA{"fresh": {Conn: fresh}, "idle": idle, "envelope": envelope} {
		if _, _, err := m.Receive(); err == nil || os.IsTimeout(err) {
			t.Errorf("%s: %v, want the connection closed", name, err)
		}
	}
	if err := <-b.served; err != nil {
		t.Errorf("serve: %v", err)
	}
	// The message in the middle of its content still gets its verdict.
	content.Body([]byte("more"))
	content.Send('E', nil)
	until(t, "it waits for its verdict", func() bool { return h.count() == 3 && inVerdict(b) == 2 })
	select {
	case err := <-down:
		t.Fatalf("shutdown returned %v with messages under way", err)
	default:
	}
	release <- struct{}{} // one of the two
	until(t, "one is answered", func() bool { return inVerdict(b) == 1 })
	cancel()
	if err := <-down; !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	answers := map[string]int{}
	for _, m := range []*miltertest.MTA{content, waiting} {
		a, err := m.Answer()
		if err != nil {
			t.Error(err)
		}
		answers[a.String()]++
		if _, _, err := m.Receive(); err != io.EOF {
			t.Errorf("after the answer: %v, want the connection closed", err)
		}
	}
	if answers["accept"] != 1 || answers["reply 451 4.3.0 Content filter failure, try again later"] != 1 {
		t.Errorf("answers %v", answers)
	}
	if _, _, err := half.Receive(); err == nil || os.IsTimeout(err) {
		t.Errorf("half a message: %v, want the connection closed", err)
	}
	for i := range 3 {
		outcome(t, h.transaction(t, i))
	}
}

// inVerdict counts the connections whose message is complete and unanswered.
func inVerdict(b *bench) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for g := range b.conns {
		g.mu.Lock()
		if g.atEnd {
			n++
		}
		g.mu.Unlock()
	}
	return n
}

// TestShutdownIdle returns at once when nothing is under way, however many
// connections are open.
func TestShutdownIdle(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	for range 20 {
		m := b.mta(t, miltertest.Postfix37)
		m.Greet()
		if _, err := m.SendMessage(plainMessage); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// TestShutdownAfterAbort: a message that was aborted is none to wait for.
func TestShutdownAfterAbort(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	for _, command := range []byte{'A', 'M'} {
		m := b.mta(t, miltertest.Postfix37)
		m.Greet()
		m.SendUpTo(plainMessage, "eom")
		m.Send(command, []byte("<a@x>\x00"))
	}
	until(t, "both are aborted", func() bool {
		if b.handler.count() != 2 {
			return false
		}
		return len(b.handler.transaction(t, 0).ended) == 1 && len(b.handler.transaction(t, 1).ended) == 1
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// TestDrainedGuard: what was read ahead is not begun when the connection has been
// closed over it: amavisd would scan for nobody.
func TestDrainedGuard(t *testing.T) {
	ours, theirs := socketPair()
	defer ours.Close()
	g := newGuard(theirs, quickTimes())
	ours.Write(slices.Concat(miltertest.Frame('M', []byte("<a@x>\x00")), miltertest.Frame('T', nil)))
	frame := make([]byte, 11)
	if _, err := io.ReadFull(g, frame); err != nil || frame[4] != 'M' {
		t.Fatalf("%q, %v", frame, err)
	}
	g.drain()
	if n, err := g.Read(frame); err != io.EOF {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// TestClose: all ends at once; the wait for a verdict is called off.
func TestClose(t *testing.T) {
	cause := make(chan error, 1)
	h := &testHandler{verdict: func(ctx context.Context) Verdict {
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return TempFail(replyFailure)
	}}
	b := startServer(t, h, quickTimes())
	m := b.mta(t, miltertest.Postfix37)
	m.Greet()
	m.SendUpTo(plainMessage, "eom")
	m.Send('E', nil)
	until(t, "the verdict is asked for", func() bool { return inVerdict(b) == 1 })
	b.Close()
	if err := <-cause; !errors.Is(err, ErrServerClosed) {
		t.Errorf("cause %v", err)
	}
	if a, err := m.Answer(); err == nil && a.Code != 'y' {
		t.Errorf("answer %q after the end", a)
	}
	if _, _, err := m.Receive(); err == nil || os.IsTimeout(err) {
		t.Errorf("receive: %v, want the connection closed", err)
	}
	if err := <-b.served; err != nil {
		t.Errorf("serve: %v", err)
	}
	outcome(t, h.transaction(t, 0))
}

// TestPanics: a panic in any callback costs its message a tempfail and the
// connection nothing.
func TestPanics(t *testing.T) {
	for _, stage := range []string{"begin", "header", "end of header", "body", "verdict", "end"} {
		t.Run(stage, func(t *testing.T) {
			h := &panicHandler{stage: stage}
			log := &logBuffer{}
			srv := NewServer(h, newTestLog(log), quickTimes())
			ours, theirs := net.Pipe()
			go srv.serveConn(theirs)
			m := greeted(t, ours, miltertest.Postfix37)
			a, err := m.SendMessage(plainMessage)
			want := "reply 451 4.3.0 Content filter failure, try again later"
			if stage == "end" {
				want = "accept"
			}
			mustAnswer(t, a, err, want)
			if begun := stage != "begin" && stage != "verdict" && stage != "end"; begun && !h.ended.Load() {
				t.Error("the message was answered before its transaction ended")
			}
			h.stage = ""
			a, err = m.SendMessage(plainMessage)
			mustAnswer(t, a, err, "accept")
			m.Quit()
			if s := log.String(); strings.Count(s, "panic, please report") != 1 || !strings.Contains(s, "shutdown_test.go") {
				t.Errorf("log: %s", s)
			}
		})
	}
}

type panicHandler struct {
	stage string
	ended atomic.Bool
}

type panicTransaction struct {
	stage string
	ended *atomic.Bool
}

func (h *panicHandler) Begin(*Envelope) Transaction {
	maybePanic(h.stage, "begin")
	h.ended.Store(false)
	return &panicTransaction{h.stage, &h.ended}
}

func (tx *panicTransaction) Header(string, string) { maybePanic(tx.stage, "header") }
func (tx *panicTransaction) EndHeader()            { maybePanic(tx.stage, "end of header") }
func (tx *panicTransaction) Body([]byte)           { maybePanic(tx.stage, "body") }
func (tx *panicTransaction) End(Outcome) {
	tx.ended.Store(true)
	maybePanic(tx.stage, "end")
}
func (tx *panicTransaction) Verdict(context.Context) Verdict {
	maybePanic(tx.stage, "verdict")
	return Accept()
}

func maybePanic(stage, here string) {
	if stage == here {
		panic("made by the test")
	}
}

// TestAbortWhileDraining: a message that is aborted leaves nothing to wait for when the
// server ends, just as one that is answered.
func TestAbortWhileDraining(t *testing.T) {
	for name, instead := range map[string]func(m *miltertest.MTA){
		"abort":   func(m *miltertest.MTA) { m.Abort() },
		"mail":    func(m *miltertest.MTA) { m.Send('M', []byte("<two@example.net>\x00")) },
		"quit_nc": func(m *miltertest.MTA) { m.Send('K', nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := NewServer(&testHandler{}, newTestLog(&logBuffer{}), DefaultTimes())
				ours, theirs := net.Pipe()
				defer ours.Close()
				go srv.serveConn(theirs)
				m, err := miltertest.New(ours, miltertest.Postfix37)
				if err != nil {
					t.Fatal(err)
				}
				m.Greet()
				m.SendUpTo(plainMessage, "eom")
				synctest.Wait()
				ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
				defer cancel()
				began := time.Now()
				down := make(chan error, 1)
				go func() { down <- srv.Shutdown(ctx) }()
				synctest.Wait()
				instead(m)
				if err := <-down; err != nil || time.Since(began) > time.Second {
					t.Errorf("shutdown after %v: %v", time.Since(began), err)
				}
			})
		})
	}
}
