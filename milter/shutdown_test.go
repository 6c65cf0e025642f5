package milter

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
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
			m, err := miltertest.New(ours, miltertest.Postfix37)
			if err != nil {
				t.Fatal(err)
			}
			m.Greet()
			a, err := m.SendMessage(plainMessage)
			want := "reply 451 4.3.0 Content filter failure, try again later"
			if stage == "end" {
				want = "accept"
			}
			mustAnswer(t, a, err, want)
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

type panicHandler struct{ stage string }

type panicTransaction struct{ stage string }

func (h *panicHandler) Begin(*Envelope) Transaction {
	maybePanic(h.stage, "begin")
	return &panicTransaction{h.stage}
}

func (tx *panicTransaction) Header(string, string) { maybePanic(tx.stage, "header") }
func (tx *panicTransaction) EndHeader()            { maybePanic(tx.stage, "end of header") }
func (tx *panicTransaction) Body([]byte)           { maybePanic(tx.stage, "body") }
func (tx *panicTransaction) End(Outcome)           { maybePanic(tx.stage, "end") }
func (tx *panicTransaction) Verdict(context.Context) Verdict {
	maybePanic(tx.stage, "verdict")
	return Accept()
}

func maybePanic(stage, here string) {
	if stage == here {
		panic("made by the test")
	}
}
