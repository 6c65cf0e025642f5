package milter

import (
	"bytes"
	"context"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

const tempfailed = "reply 451 4.3.0 Content filter failure, try again later"

// stuck is a handler whose verdicts come when it is released.
func stuck(release <-chan struct{}) *testHandler {
	return &testHandler{verdict: func(context.Context) Verdict {
		<-release
		return Accept()
	}}
}

// TestLateAmidNextMessage: a late Verdict that returns while the next message is on its
// way leaves that its answer; then the connection ends.
func TestLateAmidNextMessage(t *testing.T) {
	for stage, frames := range map[string][]byte{"MAIL": nil, "header": []byte("MRTL"), "body": []byte("MRTLNB")} {
		t.Run(stage, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				srv := NewServer(stuck(release), newTestLog(&logBuffer{}), DefaultTimes())
				ours, theirs := net.Pipe()
				go srv.serveConn(theirs)
				m := greeted(t, ours, miltertest.Postfix37)
				m.Timeout = time.Hour
				a, err := m.SendMessage(plainMessage)
				mustAnswer(t, a, err, tempfailed)
				data := map[byte]string{'M': "<two@x>\x00", 'R': "<r@x>\x00", 'L': "A\x00 b\x00", 'B': "text"}
				for _, command := range frames {
					m.Send(command, []byte(data[command]))
				}
				close(release)
				time.Sleep(time.Second) // fake time
				if frames != nil {
					m.Send('E', nil)
					a, err := m.Answer()
					mustAnswer(t, a, err, tempfailed)
				}
				if _, _, err := m.Receive(); err == nil {
					t.Error("the connection goes on")
				}
				ours.Close()
				srv.Close()
			})
		})
	}
}

// TestLateThenAbort: a late Verdict that returns while the next message is on its way ends
// when that message is aborted, and not with the connection's patience.
func TestLateThenAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := stuck(release)
		srv := NewServer(h, newTestLog(&logBuffer{}), DefaultTimes())
		ours, theirs := net.Pipe()
		go srv.serveConn(theirs)
		m := greeted(t, ours, miltertest.Postfix37)
		m.Timeout = time.Hour
		a, err := m.SendMessage(plainMessage)
		mustAnswer(t, a, err, tempfailed)
		m.SendUpTo(plainMessage, "eom")
		synctest.Wait()
		close(release)
		synctest.Wait()
		m.Abort()
		began := time.Now()
		<-h.transaction(t, 0).ended
		if took := time.Since(began); took > time.Second {
			t.Errorf("the late transaction was ended %v after the ABORT", took)
		}
		ours.Close()
		srv.Close()
	})
}

// yielding has its goroutine lose the processor before a write.
type yielding struct{ net.Conn }

func (c yielding) SetWriteDeadline(t time.Time) error {
	runtime.Gosched()
	return c.Conn.SetWriteDeadline(t)
}

// TestLateIsAnswered: a Verdict that returns in the moment in which it is answered in its
// place does not take the answer away.
func TestLateIsAnswered(t *testing.T) {
	times := DefaultTimes()
	times.Verdict = 50 * time.Millisecond
	var all sync.WaitGroup
	const connections = 200
	for i := range connections {
		all.Add(1)
		go func() {
			defer all.Done()
			h := &testHandler{verdict: func(context.Context) Verdict {
				<-time.After(times.Verdict + lateGrace + time.Duration(i)*20*time.Microsecond)
				return Accept()
			}}
			srv := NewServer(h, newTestLog(&logBuffer{}), times)
			ours, theirs := socketPair()
			defer ours.Close()
			go srv.serveConn(yielding{theirs})
			m, err := miltertest.New(ours, miltertest.Postfix37)
			if err != nil {
				t.Error(err)
				return
			}
			m.Timeout = time.Minute
			m.Greet()
			if a, err := m.SendMessage(plainMessage); err != nil {
				t.Errorf("no answer: %v, %v", a, err)
			}
			ours.Close()
			srv.Shutdown(t.Context())
		}()
	}
	all.Wait()
}

// TestShutdownAfterLate: the end of the server waits for no Verdict whose message has its
// answer.
func TestShutdownAfterLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		srv := NewServer(stuck(release), newTestLog(&logBuffer{}), DefaultTimes())
		ours, theirs := net.Pipe()
		go srv.serveConn(theirs)
		m := greeted(t, ours, miltertest.Postfix37)
		m.Timeout = time.Hour
		a, err := m.SendMessage(plainMessage)
		mustAnswer(t, a, err, tempfailed)
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		defer cancel()
		began := time.Now()
		if err := srv.Shutdown(ctx); err != nil || time.Since(began) > 0 {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		close(release)
		ours.Close()
	})
}

// explosive panics in the place of any bug on the attendant's way.
type explosive struct{ net.Conn }

func (c explosive) Write(p []byte) (int, error) {
	if len(p) == 5 && p[4] == 'p' {
		panic("a bug")
	}
	return c.Conn.Write(p)
}

// TestAttendantPanics: its message is tempfailed, its Verdict called off, and the
// connection goes on.
func TestAttendantPanics(t *testing.T) {
	times := DefaultTimes()
	times.Progress, times.Watch = 30*time.Millisecond, 20*time.Millisecond
	h := &testHandler{}
	h.verdict = func(ctx context.Context) Verdict {
		if h.count() == 1 {
			<-ctx.Done()
		}
		return Accept()
	}
	log := &logBuffer{}
	srv := NewServer(h, newTestLog(log), times)
	ours, theirs := socketPair()
	defer ours.Close()
	go srv.serveConn(explosive{theirs})
	m := greeted(t, ours, miltertest.Postfix37)
	a, err := m.SendMessage(plainMessage)
	mustAnswer(t, a, err, tempfailed)
	a, err = m.SendMessage(plainMessage)
	mustAnswer(t, a, err, "accept")
	if strings.Count(log.String(), "a bug") != 1 {
		t.Errorf("log: %s", log)
	}
	ours.Close()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLargeBufferIsGivenBackInVerdict: a message that waits for its verdict holds no room
// of larger frames, whatever came behind its end.
func TestLargeBufferIsGivenBackInVerdict(t *testing.T) {
	for _, rest := range []int{0, 1, firstReadBytes, readAheadBytes, burstBytes, ordinaryBuffer - 10} {
		release := make(chan struct{})
		h := stuck(release)
		srv := NewServer(h, newTestLog(&logBuffer{}), DefaultTimes())
		ours, theirs := socketPair()
		go srv.serveConn(theirs)
		var s []byte
		f := func(c byte, d string) { s = append(s, miltertest.Frame(c, []byte(d))...) }
		f('O', "\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff")
		f('M', "<a@x>\x00")
		f('R', "<b@x>\x00")
		f('T', "")
		f('B', string(bytes.Repeat([]byte("x"), MaxFrameBytes-1)))
		f('E', "")
		if rest > 0 {
			f('B', string(bytes.Repeat([]byte("x"), rest)))
			s = s[:len(s)-1] // it is not complete
		}
		go ours.Write(s)
		until(t, "the verdict asked", func() bool { return h.count() == 1 })
		until(t, "the room given back", func() bool { return srv.large.Load() == 0 })
		close(release)
		ours.Close()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
