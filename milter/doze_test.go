package milter

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
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
	times.Idle = time.Second
	session := DefaultTimes()
	session.Session = time.Second
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
			began := time.Now()
			m := b.mta(t, miltertest.Postfix37)
			m.Greet()
			until(t, "asleep", func() bool { return b.dormitory.asleep() == 1 })
			c.end(b, m)
			until(t, "gone", func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return len(b.conns) == 0
			})
			if c.times != DefaultTimes() && time.Since(began) < time.Second {
				t.Errorf("closed after %v already", time.Since(began))
			}
			if strings.Contains(b.log.String(), "panic") {
				t.Errorf("log: %s", b.log)
			}
		})
	}
}

// TestShortNaps: who was woken soon is awake for longer before the next nap, and who has
// slept long is not.
func TestShortNaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const after = time.Second
		d := &doze{in: &dormitory{after: after}, session: &session{srv: &Server{}}, after: after}
		for i, c := range []struct{ nap, want time.Duration }{
			{0, shortNap * after}, {shortNap*after - 1, shortNap * after}, {shortNap * after, after},
			{after, shortNap * after}, {shortNap * shortNap * after, after},
		} {
			d.lieDown()
			time.Sleep(c.nap) // fake time
			if d.rise(); d.after != c.want {
				t.Errorf("nap %d, of %v: the next one comes after %v, want %v", i, c.nap, d.after, c.want)
			}
		}
	})
}

// TestBusyConnectionNapsSeldom: a connection with a message now and then does not lie
// down between all of them.
func TestBusyConnectionNapsSeldom(t *testing.T) {
	const after = 100 * time.Millisecond
	b := startServerOn(t, "unix", &testHandler{}, DefaultTimes(), func(srv *Server) { srv.dormitory.after = after })
	m := b.mta(t, miltertest.Postfix37)
	m.Greet()
	until(t, "asleep", func() bool { return b.dormitory.asleep() == 1 })
	const messages = 6
	for range messages {
		a, err := m.SendMessage(plainMessage)
		mustAnswer(t, a, err, "accept")
		<-time.After(after * 3 / 2)
	}
	if naps := b.lastBed(); naps >= messages {
		t.Errorf("%d naps behind %d messages", naps, messages)
	}
}

// TestQuietAfterLateNap: who lies down when it has become quiet already makes it become
// quiet once more: what it held is given back then.
func TestQuietAfterLateNap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		srv := &Server{}
		srv.OnQuiet(func() { told++ })
		d := &doze{in: &dormitory{after: time.Second}, session: &session{srv: srv}, after: time.Second}
		for i, want := range []int{0, 1} {
			d.lieDown()
			time.Sleep(3 * quietAfter) // fake time
			synctest.Wait()
			if told != want {
				t.Errorf("nap %d: it has become quiet %d times, want %d", i, told, want)
			}
			d.began = time.Now()
			d.rise()
		}
	})
}

// TestDormitoryCloses: the end of the dormitory waits for nobody, whoever is told of a
// connection in that moment.
func TestDormitoryCloses(t *testing.T) {
	b := drowsy(t, &testHandler{}, DefaultTimes())
	m := b.mta(t, miltertest.Postfix37)
	until(t, "asleep", func() bool { return b.dormitory.asleep() == 1 })
	d := &b.dormitory
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	for range 100 {
		d.mu.Lock()
		closed := make(chan struct{})
		go func() {
			d.close()
			close(closed)
		}()
		m.SendRaw(miltertest.Frame('A', nil)) // the set's goroutine is told, and waits
		<-time.After(time.Millisecond)
		d.mu.Unlock()
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Fatal("it does not close")
		}
	}
}

// TestCloseWhileRousing: the server closes while its connections are woken.
func TestCloseWhileRousing(t *testing.T) {
	for round := range 30 {
		b := drowsy(t, &testHandler{}, DefaultTimes())
		const n = 40
		var mtas []*miltertest.MTA
		for range n {
			mtas = append(mtas, b.mta(t, miltertest.Postfix37))
		}
		until(t, "asleep", func() bool { return b.dormitory.asleep() == n })
		go func() {
			for _, m := range mtas {
				m.SendRaw(miltertest.Frame('A', nil))
			}
		}()
		<-time.After(time.Duration(round) * 10 * time.Microsecond)
		b.Close()
		until(t, "all gone", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return len(b.conns) == 0 && b.dormitory.asleep() == 0
		})
	}
}

// TestDozeHoldsNoBuffer: not even after a nap that no answer has ended.
func TestDozeHoldsNoBuffer(t *testing.T) {
	b := drowsy(t, &testHandler{}, DefaultTimes())
	m := b.mta(t, miltertest.Postfix37)
	for i, step := range []func(){
		func() {},
		func() { m.Connect("mail.example.com", '4', 4321, "192.0.2.1") },
		func() { m.Helo("mail.example.com") },
		func() { m.Mail("<a@example.net>") },
		func() { m.Rcpt("<b@example.org>") },
		func() { m.Abort() },
	} {
		last := b.lastBed()
		step()
		until(t, "asleep again", func() bool { return b.dormitory.asleep() == 1 && (i == 0 || b.lastBed() > last) })
		b.mu.Lock()
		for g := range b.conns {
			b.dormitory.mu.Lock()
			if cap(g.out) != 0 || len(g.in) != 0 {
				t.Errorf("%d bytes to write in, %d to read in are held", cap(g.out), len(g.in))
			}
			b.dormitory.mu.Unlock()
		}
		b.mu.Unlock()
	}
}

func (b *bench) lastBed() uint64 {
	b.dormitory.mu.Lock()
	defer b.dormitory.mu.Unlock()
	return b.dormitory.last
}

// TestDozeForgetsWhatMustBe: an envelope that a HELO ends is ended across naps as well.
func TestDozeForgetsWhatMustBe(t *testing.T) {
	b := drowsy(t, &testHandler{}, DefaultTimes())
	m := b.mta(t, miltertest.Postfix37)
	nap := func(step func()) {
		last := b.lastBed()
		step()
		until(t, "asleep again", func() bool { return b.dormitory.asleep() == 1 && b.lastBed() > last })
	}
	nap(func() { m.Connect("mail.example.com", '4', 4321, "192.0.2.1") })
	nap(func() { m.Mail("<a@example.net>") })
	nap(func() { m.Rcpt("<b@example.org>") })
	nap(func() { m.Helo("mail.example.com") })
	nap(func() { m.Rcpt("<c@example.org>") })
	m.Data()
	m.Header("Subject", " x")
	a, err := m.EOM()
	mustAnswer(t, a, err, noMessage)
	a, err = m.SendMessage(plainMessage)
	mustAnswer(t, a, err, "accept")
}

// TestDozeUnderFire: connections that are written to in the moment in which they lie down
// are served, never forgotten.
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
