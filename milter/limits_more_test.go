package milter

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// TestVersionAround: the oldest protocol version at one below, at, and above.
func TestVersionAround(t *testing.T) {
	for version, ok := range map[uint32]bool{minVersion - 1: false, minVersion: true, minVersion + 1: true} {
		b := startServer(t, &testHandler{}, quickTimes())
		conn, err := net.Dial(b.network, b.address)
		if err != nil {
			t.Fatal(err)
		}
		m, err := miltertest.New(conn, miltertest.Offer{Version: version, Actions: 0x1f, Protocol: 0x7f})
		if (err == nil) != ok {
			t.Errorf("version %d: %v", version, err)
		}
		if err == nil && m.Version != version {
			t.Errorf("version %d became %d", version, m.Version)
		}
		conn.Close()
	}
}

// TestTimesAround: what an MTA may take for its offer, within a frame, between frames,
// and to read what it is sent, just below and just above each bound.
func TestTimesAround(t *testing.T) {
	const instant = time.Millisecond
	times := DefaultTimes()
	greeted := func(t *testing.T, conn net.Conn) *miltertest.MTA {
		m, err := miltertest.New(conn, miltertest.Version2)
		if err != nil {
			t.Fatal(err)
		}
		m.Timeout = 24 * time.Hour // of fake time
		return m
	}
	for name, tt := range map[string]struct {
		limit time.Duration
		try   func(t *testing.T, conn net.Conn, pause time.Duration) error
	}{
		"Negotiate": {times.Negotiate, func(t *testing.T, conn net.Conn, pause time.Duration) error {
			time.Sleep(pause) // fake time
			_, err := miltertest.New(conn, miltertest.Version2)
			return err
		}},
		"Frame": {times.Frame, func(t *testing.T, conn net.Conn, pause time.Duration) error {
			m := greeted(t, conn)
			frame := miltertest.Frame('H', []byte("h\x00"))
			m.SendRaw(frame[:3])
			time.Sleep(pause) // fake time
			if err := m.SendRaw(frame[3:]); err != nil {
				return err
			}
			_, err := m.Answer()
			return err
		}},
		"Idle": {times.Idle, func(t *testing.T, conn net.Conn, pause time.Duration) error {
			m := greeted(t, conn)
			time.Sleep(pause) // fake time
			_, err := m.Helo("h")
			return err
		}},
		"Write": {times.Write, func(t *testing.T, conn net.Conn, pause time.Duration) error {
			m := greeted(t, conn)
			m.Send('H', []byte("h\x00"))
			time.Sleep(pause) // fake time; a pipe has no buffer: we wait until it reads
			_, err := m.Answer()
			return err
		}},
	} {
		for _, pause := range []time.Duration{tt.limit - instant, tt.limit + instant} {
			synthetic(t, &testHandler{}, func(t *testing.T, b *bench, conn net.Conn) {
				if err := tt.try(t, conn, pause); (err == nil) != (pause < tt.limit) {
					t.Errorf("%s: after %v: %v", name, pause, err)
				}
			})
		}
	}
}

// TestVerdictAround: a verdict just before its time with the grace, and just after it.
func TestVerdictAround(t *testing.T) {
	limit := DefaultTimes().Verdict + lateGrace
	for _, pause := range []time.Duration{limit - time.Millisecond, limit + time.Millisecond} {
		h := &testHandler{verdict: func(context.Context) Verdict {
			time.Sleep(pause) // fake time
			return Accept()
		}}
		synthetic(t, h, func(t *testing.T, b *bench, conn net.Conn) {
			m := greeted(t, conn, miltertest.Sendmail817)
			m.Timeout = time.Hour
			a, err := m.SendMessage(plainMessage)
			want := "accept"
			if pause > limit {
				want = "reply 451 4.3.0 Content filter failure, try again later"
			}
			mustAnswer(t, a, err, want)
			time.Sleep(time.Second) // fake time; what is late ends, too
		})
	}
}

// TestProgressAround: the first packet goes out when its time has come, not before.
func TestProgressAround(t *testing.T) {
	tick := DefaultTimes().Progress
	for pause, want := range map[time.Duration]int{tick - time.Millisecond: 0, tick + time.Millisecond: 1, 2*tick + time.Millisecond: 2} {
		h := &testHandler{verdict: func(context.Context) Verdict {
			time.Sleep(pause) // fake time
			return Accept()
		}}
		synthetic(t, h, func(t *testing.T, b *bench, conn net.Conn) {
			m, err := miltertest.New(conn, miltertest.Sendmail817)
			if err != nil {
				t.Fatal(err)
			}
			m.Greet()
			if a, err := m.SendMessage(plainMessage); err != nil || a.Progress != want {
				t.Errorf("a verdict after %v: %d progress packets, want %d; %v", pause, a.Progress, want, err)
			}
		})
	}
}

// TestWatchedBytesAround: that an MTA has hung up while it waits is noticed at the first
// look, after Watch; if it has sent more before than is taken in, when the next
// progress packet cannot be written.
func TestWatchedBytesAround(t *testing.T) {
	for _, n := range []int{maxWatchedBytes - 1, maxWatchedBytes, maxWatchedBytes + 1} {
		noticed := make(chan time.Duration, 1)
		h := &testHandler{}
		synthetic(t, h, func(t *testing.T, b *bench, conn net.Conn) {
			noticed = make(chan time.Duration, 1) // of the bubble
			h.verdict = func(ctx context.Context) Verdict {
				began := time.Now()
				<-ctx.Done()
				noticed <- time.Since(began)
				return Accept()
			}
			m, err := miltertest.New(conn, miltertest.Sendmail817)
			if err != nil {
				t.Fatal(err)
			}
			m.Greet()
			if err := m.SendUpTo(plainMessage, "eom"); err != nil {
				t.Fatal(err)
			}
			m.Send('E', nil)
			time.Sleep(DefaultTimes().Watch) // fake time
			synctest.Wait()
			go m.SendRaw(miltertest.Frame('B', make([]byte, n-5))) // a length of 4 bytes, a command
			synctest.Wait()
			conn.Close()
			want := DefaultTimes().Watch
			if n >= maxWatchedBytes {
				want = DefaultTimes().Progress
			}
			if got := <-noticed; got != want {
				t.Errorf("behind %d bytes the hang-up was noticed after %v, want %v", n, got, want)
			}
		})
	}
}

// TestCloseFlush: a connection that is closed with an answer that nobody reads is gone
// after a bounded time.
func TestCloseFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		g := newGuard(theirs, DefaultTimes())
		g.out = append(g.out, "an answer"...)
		began := time.Now()
		g.Close()
		if took := time.Since(began); took != closeFlushTimeout {
			t.Errorf("closed after %v, want %v", took, closeFlushTimeout)
		}
	})
}

// TestReplyTextAround: the text of a reply is cut at its bound, between characters.
func TestReplyTextAround(t *testing.T) {
	for _, n := range []int{MaxReplyTextBytes - 1, MaxReplyTextBytes, MaxReplyTextBytes + 1} {
		if got := len(MustSMTPReply(550, "5.7.1", strings.Repeat("x", n)).Text()); got != min(n, MaxReplyTextBytes) {
			t.Errorf("%d bytes became %d", n, got)
		}
	}
}

// TestLastAnswers: a verdict that does not come keeps the end of the server no longer
// than for a bounded time.
func TestLastAnswers(t *testing.T) {
	for _, pause := range []time.Duration{lastAnswers - time.Millisecond, lastAnswers + time.Millisecond} {
		h := &testHandler{verdict: func(ctx context.Context) Verdict {
			<-ctx.Done()
			time.Sleep(pause) // fake time
			return TempFail(replyFailure)
		}}
		synthetic(t, h, func(t *testing.T, b *bench, conn net.Conn) {
			m, err := miltertest.New(conn, miltertest.Sendmail817)
			if err != nil {
				t.Fatal(err)
			}
			m.Greet()
			m.SendUpTo(plainMessage, "eom")
			m.Send('E', nil)
			synctest.Wait()
			go m.Answer() // reads it
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			began := time.Now()
			if err := b.Shutdown(ctx); err == nil {
				t.Error("ended as if nothing had been cut off")
			}
			if took := time.Since(began); took != min(pause, lastAnswers) {
				t.Errorf("a verdict %v late: the end took %v", pause, took)
			}
			time.Sleep(time.Second) // fake time; the handler returns
		})
	}
}
