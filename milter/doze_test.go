package milter

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// drowsy starts a server whose connections doze at once.
func drowsy(t *testing.T, h *testHandler, times Times) *bench {
	return startServerOn(t, "unix", h, times, func(srv *Server) { srv.dormitory.after = time.Millisecond })
}

// TestDoze: a connection that is idle has no goroutine, and goes on as if nothing had
// been, with all that was told before: between messages, and within an envelope.
func TestDoze(t *testing.T) {
	for name, offer := range map[string]miltertest.Offer{"sendmail": miltertest.Sendmail817, "version 2": miltertest.Version2} {
		t.Run(name, func(t *testing.T) {
			b := drowsy(t, &testHandler{}, DefaultTimes())
			m := b.mta(t, offer)
			nap := func() { until(t, "asleep", func() bool { return b.dormitory.asleep() == 1 }) }
			nap()
			m.Macros('C', "j", "mx.example.org", "{client_name}", "mail.example.com", "{daemon_name}", "MTA")
			m.Connect("mail.example.com", '4', 4321, "192.0.2.1")
			nap()
			m.Macros('H', "{tls_version}", "TLSv1.3")
			m.Helo("helo.example.com")
			for i := range 3 {
				nap()
				m.Macros('M', "i", fmt.Sprint("Q", i), "{auth_authen}", "ann")
				m.Mail("<a@example.net>")
				nap()
				m.Rcpt("<b@example.org>")
				nap()
				m.Rcpt("<c@example.org>")
				nap()
				m.Data()
				m.Header("Subject", " x")
				m.EOH()
				m.Body([]byte("text\r\n"))
				a, err := m.EOM()
				mustAnswer(t, a, err, "accept")
				nap()
				m.Abort()
				env := b.handler.transaction(t, i).env
				if env.Client.Address != "192.0.2.1" || env.Client.Port != 4321 || env.Client.Helo != "helo.example.com" || env.Client.Name != "mail.example.com" ||
					env.TLS.Version != "TLSv1.3" || env.Hostname != "mx.example.org" || env.DaemonName != "MTA" ||
					env.QueueID != fmt.Sprint("Q", i) || env.Auth.Authen != "ann" || env.Sender.String() != "<a@example.net>" || len(env.Recipients) != 2 {
					t.Errorf("message %d: %+v", i, env)
				}
			}
			nap()
			m.Send('Q', nil)
			if _, _, err := m.Receive(); err != io.EOF {
				t.Errorf("after QUIT: %v", err)
			}
		})
	}
}

// TestDozeCostsNoGoroutine: many connections doze without one each.
func TestDozeCostsNoGoroutine(t *testing.T) {
	b := drowsy(t, &testHandler{}, DefaultTimes())
	before := runtime.NumGoroutine()
	const n = 100
	var mtas []*miltertest.MTA
	for range n {
		m := b.mta(t, miltertest.Postfix37)
		m.Greet()
		a, err := m.SendMessage(plainMessage)
		mustAnswer(t, a, err, "accept")
		mtas = append(mtas, m)
	}
	until(t, "all asleep", func() bool { return b.dormitory.asleep() == n })
	until(t, "goroutines gone", func() bool { return runtime.NumGoroutine()-before < n/10 })
	for _, m := range mtas {
		a, err := m.SendMessage(plainMessage)
		mustAnswer(t, a, err, "accept")
	}
}

// TestDozeEnds: who dozes is still closed when its time is over, when the MTA hangs up,
// and when the server ends, and is not counted any more.
func TestDozeEnds(t *testing.T) {
	times := DefaultTimes()
	times.Idle = 100 * time.Millisecond
	session := DefaultTimes()
	session.Session = 100 * time.Millisecond
	for name, c := range map[string]struct {
		times Times
		end   func(b *bench, m *miltertest.MTA)
	}{
		"idle":     {times, func(*bench, *miltertest.MTA) {}},
		"session":  {session, func(*bench, *miltertest.MTA) {}},
		"hang-up":  {DefaultTimes(), func(_ *bench, m *miltertest.MTA) { m.Conn.Close() }},
		"shutdown": {DefaultTimes(), func(b *bench, _ *miltertest.MTA) { b.Shutdown(context.Background()) }},
		"close":    {DefaultTimes(), func(b *bench, _ *miltertest.MTA) { b.Close() }},
		"garbage":  {DefaultTimes(), func(_ *bench, m *miltertest.MTA) { m.SendRaw([]byte("GET / HTTP/1.1\r\n\r\n")) }},
	} {
		t.Run(name, func(t *testing.T) {
			b := drowsy(t, &testHandler{}, c.times)
			m := b.mta(t, miltertest.Postfix37)
			m.Greet()
			began := time.Now()
			until(t, "asleep", func() bool { return b.dormitory.asleep() == 1 })
			c.end(b, m)
			until(t, "gone", func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return len(b.conns) == 0
			})
			if c.times != DefaultTimes() && time.Since(began) < 90*time.Millisecond {
				t.Errorf("closed after %v already", time.Since(began))
			}
			if strings.Contains(b.log.String(), "panic") {
				t.Errorf("log: %s", b.log)
			}
		})
	}
}

// TestDozeUnderFire: connections that are closed, drained, and written to in the moment
// in which they lie down are served or closed, never forgotten.
func TestDozeUnderFire(t *testing.T) {
	b := startServerOn(t, "unix", &testHandler{}, DefaultTimes(), func(srv *Server) { srv.dormitory.after = 200 * time.Microsecond })
	done := make(chan error)
	const conns = 16
	for i := range conns {
		go func() {
			conn, err := net.Dial(b.network, b.address)
			if err != nil {
				done <- err
				return
			}
			defer conn.Close()
			m, err := miltertest.New(conn, miltertest.Postfix37)
			if err != nil {
				done <- err
				return
			}
			for n := range 200 {
				if a, err := m.SendMessage(plainMessage); err != nil || a.Code != 'a' {
					done <- fmt.Errorf("connection %d, message %d: %v, %v", i, n, a, err)
					return
				}
				for wait := time.Now().Add(time.Duration(n*i) * time.Microsecond / 4); time.Now().Before(wait); {
					runtime.Gosched()
				}
			}
			done <- nil
		}()
	}
	for range conns {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	until(t, "all gone", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.conns) == 0
	})
	if n := b.dormitory.asleep(); n != 0 {
		t.Errorf("%d beds are taken", n)
	}
}
