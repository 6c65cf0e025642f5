package milter

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/minutely"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

const tooMany = "reply 451 4.3.2 Too many connections, try again later"

// hall is a server in fake time to which connections come from any address.
type hall struct {
	*bench
	t     *testing.T
	conns []net.Conn
}

// from is a connection that comes from an address; empty is a local socket.
type from struct {
	net.Conn
	address string
}

func (c from) RemoteAddr() net.Addr {
	if c.address == "" {
		return &net.UnixAddr{Net: "unix"}
	}
	addr, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(c.address, "25"))
	if err != nil {
		panic(err)
	}
	return addr
}

func inHall(t *testing.T, limits Limits, test func(h *hall)) {
	synctest.Test(t, func(t *testing.T) {
		log := &logBuffer{}
		handler := &testHandler{}
		h := &hall{bench: &bench{Server: NewServer(handler, newTestLog(log), DefaultTimes()), handler: handler, log: log}, t: t}
		h.Limit(limits)
		test(h)
		for _, c := range h.conns {
			c.Close()
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		h.Shutdown(ctx)
		synctest.Wait()
		if h.sessions != 0 || h.refusing != 0 || len(h.perAddress) != 0 || h.buffered.Load() != 0 || h.large.Load() != 0 || h.envelopes.Load() != 0 {
			t.Errorf("at the end %d sessions, %d refusing, %d addresses, %d bytes buffered, %d of envelopes are counted",
				h.sessions, h.refusing, len(h.perAddress), h.buffered.Load(), h.envelopes.Load())
		}
	})
}

// enter connects without a word.
func (h *hall) enter(address string) net.Conn {
	ours, theirs := net.Pipe()
	h.conns = append(h.conns, ours)
	go h.serveConn(from{theirs, address})
	synctest.Wait()
	return ours
}

// mta connects and negotiates; nil says that the connection was closed.
func (h *hall) mta(address string, o miltertest.Offer) *miltertest.MTA {
	m, err := miltertest.New(h.enter(address), o)
	if err != nil {
		return nil
	}
	if err := m.Greet(); err != nil {
		return nil
	}
	m.Timeout = 24 * time.Hour // of fake time: we are what is timed
	return m
}

// passes sends a message, and reports whether it was accepted; a refused one has
// to be refused at MAIL, with the reply of a limit.
func (h *hall) passes(m *miltertest.MTA) bool {
	h.t.Helper()
	if m == nil {
		h.t.Fatal("connection closed")
	}
	if m.Protocol&miltertest.NRMail == 0 {
		a, err := m.Mail("<a@example.net>")
		if err != nil {
			h.t.Fatal(err)
		}
		if a.String() == tooMany {
			return false
		}
		if err := m.Abort(); err != nil {
			h.t.Fatal(err)
		}
	}
	a, err := m.SendMessage(plainMessage)
	mustAnswer(h.t, a, err, "accept")
	return true
}

func isClosed(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	return err == io.EOF || err == io.ErrClosedPipe
}

// TestSessions: as many connections as allowed, n-1, n and n+1; who comes later is
// refused at MAIL, again and again, and room that somebody leaves is taken.
func TestSessions(t *testing.T) {
	for _, o := range []miltertest.Offer{miltertest.Sendmail817, miltertest.Postfix37, miltertest.Version2} {
		inHall(t, Limits{Sessions: 3}, func(h *hall) {
			var inside []*miltertest.MTA
			for range 3 {
				m := h.mta("", o)
				inside = append(inside, m)
				if !h.passes(m) {
					t.Error("refused within the limit")
				}
			}
			late := h.mta("", o)
			for _, m := range []*miltertest.MTA{late, late, h.mta("", o)} {
				if h.passes(m) {
					t.Error("passed beyond the limit")
				}
			}
			if !h.passes(inside[0]) {
				t.Error("who was inside is refused when others come")
			}
			inside[1].Quit()
			synctest.Wait()
			if !h.passes(h.mta("", o)) {
				t.Error("refused although one has left")
			}
			if h.passes(h.mta("", o)) {
				t.Error("passed beyond the limit again")
			}
			if n := strings.Count(h.log.String(), "too many connections: further ones are refused"); n != 1 {
				t.Errorf("%d log lines:\n%s", n, h.log)
			}
			time.Sleep(minutely.Pause) // fake time
			h.mta("", o)
			if s := h.log.String(); !strings.Contains(s, "limit=sessions most=3 cases=3") {
				t.Errorf("a minute later:\n%s", s)
			}
		})
	}
}

// TestSessionsPerAddress: those of an address are limited, others come in.
func TestSessionsPerAddress(t *testing.T) {
	inHall(t, Limits{SessionsPerAddress: 2}, func(h *hall) {
		for i, tt := range []struct {
			address string
			pass    bool
		}{
			{"192.0.2.1", true}, {"::ffff:192.0.2.1", true}, {"192.0.2.1", false}, {"192.0.2.2", true},
			{"2001:db8::1", true}, {"2001:db8::2", true}, {"2001:db8::ffff:0:0:1", false}, {"2001:db8:0:1::1", true},
			{"", true}, {"", true}, {"", true},
		} {
			if got := h.passes(h.mta(tt.address, miltertest.Sendmail817)); got != tt.pass {
				t.Errorf("connection %d, from %q: passes %v", i, tt.address, got)
			}
		}
		if s := h.log.String(); !strings.Contains(s, `limit="sessions per address" most=2 address=192.0.2.1 cases=1`) {
			t.Errorf("log:\n%s", s)
		}
	})
}

// TestRefusing: connections beyond the limit are served their refusal up to a number,
// and not for long.
func TestRefusing(t *testing.T) {
	inHall(t, Limits{Sessions: 1}, func(h *hall) {
		if !h.passes(h.mta("", miltertest.Sendmail817)) {
			t.Fatal("refused within the limit")
		}
		var refused []*miltertest.MTA
		for i := range maxRefusing {
			m := h.mta("", miltertest.Sendmail817)
			if h.passes(m) {
				t.Fatalf("connection %d passed", i)
			}
			refused = append(refused, m)
		}
		if conn := h.enter(""); !isClosed(conn) {
			t.Error("one more is not closed")
		}
		if s := h.log.String(); !strings.Contains(s, "most=256 cases=1") {
			t.Errorf("log:\n%s", s)
		}
		refused[0].Quit()
		synctest.Wait()
		if h.passes(h.mta("", miltertest.Sendmail817)) {
			t.Error("passed beyond the limit")
		}
		time.Sleep(refusingIdle + time.Second) // fake time
		synctest.Wait()
		if h.refusing != 0 || !isClosed(refused[1].Conn) {
			t.Errorf("after a minute of silence %d are still served a refusal", h.refusing)
		}
	})
}

// TestWhoOwesMakesRoom: a connection that owes us its offer, the rest of a command or
// the rest of a message's content is closed for another, but not at once; one that
// waits for its SMTP client, or for us, never is.
func TestWhoOwesMakesRoom(t *testing.T) {
	begin := func(h *hall, upTo string) *miltertest.MTA {
		m := h.mta("192.0.2.1", miltertest.Sendmail817)
		if upTo != "" {
			if err := m.SendUpTo(plainMessage, upTo); err != nil {
				t.Fatal(err)
			}
		}
		return m
	}
	const never = 0
	for name, tt := range map[string]struct {
		grace time.Duration
		enter func(h *hall) net.Conn
	}{
		"no offer":      {owedGrace, func(h *hall) net.Conn { return h.enter("192.0.2.1") }},
		"half an offer": {owedGrace, func(h *hall) net.Conn { c := h.enter("192.0.2.1"); c.Write([]byte{0, 0, 0}); return c }},
		"half a frame":  {owedGrace, func(h *hall) net.Conn { m := begin(h, ""); m.SendRaw([]byte{0, 0, 0}); return m.Conn }},
		"half a body":   {contentGrace, func(h *hall) net.Conn { return begin(h, "body").Conn }},
		"half a body frame": {contentGrace, func(h *hall) net.Conn {
			m := begin(h, "body")
			m.SendRaw([]byte{0, 0, 0})
			return m.Conn
		}},
		"idle":          {never, func(h *hall) net.Conn { return begin(h, "").Conn }},
		"a slow client": {never, func(h *hall) net.Conn { return begin(h, "rcpt").Conn }},
		"DATA":          {never, func(h *hall) net.Conn { return begin(h, "data").Conn }},
		"answered":      {never, func(h *hall) net.Conn { m := begin(h, ""); h.passes(m); return m.Conn }},
		"scanned": {never, func(h *hall) net.Conn {
			h.handler.verdict = func(ctx context.Context) Verdict { <-ctx.Done(); return Accept() }
			m := begin(h, "body")
			m.Send('E', nil)
			synctest.Wait()
			return m.Conn
		}},
	} {
		for _, limits := range []Limits{{Sessions: 1}, {SessionsPerAddress: 1}} {
			t.Run(fmt.Sprintf("%s/%+v", name, limits), func(t *testing.T) {
				inHall(t, limits, func(h *hall) {
					first := tt.enter(h)
					synctest.Wait()
					grace := tt.grace
					if grace == never {
						grace = 2 * contentGrace
					}
					time.Sleep(grace - time.Millisecond) // fake time
					h.enter("192.0.2.1")
					if h.sessions != 1 || h.refusing != 1 {
						t.Errorf("before the grace is over: %d sessions, %d refusing", h.sessions, h.refusing)
					}
					time.Sleep(searchPause) // fake time
					h.enter("192.0.2.1")
					if closed := h.refusing == 1; closed != (tt.grace != never) {
						t.Errorf("after it: closed %v", closed)
					}
					if isClosed(first) != (tt.grace != never) {
						t.Errorf("the first one is closed: %v", tt.grace == never)
					}
				})
			})
		}
	}
}

// TestOneMakesRoom: of those in the content of a message only one is closed for a
// newcomer, the one that has owed it for longest.
func TestOneMakesRoom(t *testing.T) {
	inHall(t, Limits{Sessions: 3}, func(h *hall) {
		var conns []net.Conn
		for range 3 {
			m := h.mta("", miltertest.Sendmail817)
			m.SendUpTo(plainMessage, "body")
			conns = append(conns, m.Conn)
			time.Sleep(time.Second) // fake time
		}
		time.Sleep(contentGrace) // fake time
		h.enter("")
		synctest.Wait()
		for i, c := range conns {
			if isClosed(c) != (i == 0) {
				t.Errorf("connection %d is closed: %v", i, i != 0)
			}
		}
	})
}

// TestKnockingIsNoHarm: who knocks at the limit of his address does not keep room from
// being made for others.
func TestKnockingIsNoHarm(t *testing.T) {
	inHall(t, Limits{Sessions: 2, SessionsPerAddress: 1}, func(h *hall) {
		h.mta("192.0.2.1", miltertest.Sendmail817)
		h.enter("192.0.2.2")
		time.Sleep(10 * owedGrace) // fake time
		h.enter("192.0.2.1")
		if !h.passes(h.mta("192.0.2.3", miltertest.Sendmail817)) {
			t.Error("refused, although somebody owed us his offer")
		}
	})
}

// TestSilentRefused: connections beyond the limit that say nothing do not keep others
// from being told.
func TestSilentRefused(t *testing.T) {
	inHall(t, Limits{Sessions: 1}, func(h *hall) {
		h.mta("", miltertest.Sendmail817)
		for range maxRefusing {
			h.enter("")
		}
		time.Sleep(owedGrace + time.Millisecond) // fake time
		if h.passes(h.mta("", miltertest.Sendmail817)) {
			t.Error("passed beyond the limit")
		}
		time.Sleep(refusingNegotiate) // fake time
		synctest.Wait()
		if h.refusing != 1 {
			t.Errorf("%d connections beyond the limit are left", h.refusing)
		}
	})
}

// TestNamesAreClipped: of what a peer tells of itself the end is kept, up to a bound.
func TestNamesAreClipped(t *testing.T) {
	for n, want := range map[int]int{maxName - 1: maxName - 1, maxName: maxName, maxName + 1: maxName, MaxFrameBytes - 100: maxName} {
		inHall(t, Limits{}, func(h *hall) {
			m, err := miltertest.New(h.enter(""), miltertest.Sendmail817)
			if err != nil {
				t.Fatal(err)
			}
			const end = ".example.net"
			m.Connect(strings.Repeat("c", n-len(end))+end, '4', 25, "192.0.2.1")
			m.Helo(strings.Repeat("h", n-len(end)) + end)
			a, err := m.SendMessage(plainMessage)
			mustAnswer(t, a, err, "accept")
			client := h.handler.transaction(t, 0).env.Client
			if len(client.Name) != want || len(client.Helo) != want || !strings.HasSuffix(client.Name, "c"+end) || !strings.HasSuffix(client.Helo, "h"+end) {
				t.Errorf("%d bytes: name of %d, HELO of %d", n, len(client.Name), len(client.Helo))
			}
		})
	}
}

// TestOthersDoNotMakeRoom: an address at its limit takes no room from others.
func TestOthersDoNotMakeRoom(t *testing.T) {
	inHall(t, Limits{SessionsPerAddress: 1}, func(h *hall) {
		other := h.enter("192.0.2.2")
		h.mta("192.0.2.1", miltertest.Sendmail817)
		time.Sleep(2 * owedGrace) // fake time
		if h.passes(h.mta("192.0.2.1", miltertest.Sendmail817)) || isClosed(other) {
			t.Error("another address had to make room")
		}
	})
}
