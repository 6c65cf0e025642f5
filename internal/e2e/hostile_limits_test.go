package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// tooMany is what the MTA reads beyond a limit on connections.
const tooMany = "reply " + beyondSessions

// mtaFrom opens a connection as an MTA does, from the n-th loopback address.
func (g *target) mtaFrom(t *testing.T, n int) *miltertest.MTA {
	t.Helper()
	conn, err := g.dialFrom(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m, err := miltertest.New(conn, miltertest.Sendmail817)
	if err != nil {
		t.Fatal(err)
	}
	m.Timeout = time.Minute
	if err := m.Greet(); err != nil {
		t.Fatal(err)
	}
	return m
}

// mustRefuse wants MAIL refused, twice, on a connection that stays.
func mustRefuse(t *testing.T, m *miltertest.MTA) {
	t.Helper()
	for range 2 {
		if a, err := m.Mail("<a@remote.test>"); err != nil || a.String() != tooMany {
			t.Errorf("beyond the limit MAIL was answered %q, %v; want %q", a, err, tooMany)
		}
	}
}

// mustServe wants a message accepted.
func mustServe(t *testing.T, what string, m *miltertest.MTA) {
	t.Helper()
	if err := mustAccept(m, message(1)); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// TestSessionLimits: of one connection fewer than a limit, as many and one more, only
// the last is refused, also while it is within the other limit; the others are served
// all the same, and when one of them has ended there is room.
func TestSessionLimits(t *testing.T) {
	const most = 3
	for name, c := range map[string]struct {
		network string
		flags   []string
		late    int // the address of the one beyond
		beside  int // one that is served even then; 0: none
	}{
		"in all, local":         {"unix", []string{"--max-sessions", fmt.Sprint(most)}, 1, 0},
		"in all, inet":          {"tcp", []string{"--max-sessions", fmt.Sprint(most)}, 2, 0},
		"per address":           {"tcp", []string{"--max-sessions-per-address", fmt.Sprint(most)}, 1, 2},
		"per address, no other": {"tcp", []string{"--max-sessions-per-address", fmt.Sprint(most), "--max-sessions", "0"}, 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			g := startTarget(t, c.network, c.flags...)
			g.idle(t)
			var inside []*miltertest.MTA
			for n := range most {
				inside = append(inside, g.mtaFrom(t, 1))
				mustServe(t, fmt.Sprintf("connection %d of %d", n+1, most), inside[n])
			}
			late := g.mtaFrom(t, c.late)
			mustRefuse(t, late)
			if c.beside > 0 {
				mustServe(t, "from another address", g.mtaFrom(t, c.beside))
			}
			for _, m := range inside {
				mustServe(t, "within the limit, while one is refused", m)
			}
			inside[0].Quit()
			err := lab.Poll(noticeTimeout, "room for another connection", func() error {
				m := g.mtaFrom(t, c.late)
				defer m.Conn.Close()
				return mustAccept(m, message(2))
			})
			if err != nil {
				t.Error(err)
			}
			mustRefuse(t, late) // what was refused stays so
			if text, err := os.ReadFile(g.logFile); err != nil || strings.Count(string(text), "further ones are refused") != 1 {
				t.Errorf("error %v; the log:\n%s", err, text)
			}
		})
	}
}

// idle waits until the program has no connection: the one that found it ready is gone.
func (g *target) idle(t *testing.T) {
	t.Helper()
	last := -1
	err := lab.Poll(noticeTimeout, "the program to be idle", func() error {
		n, err := g.Descriptors()
		same := n == last
		last = n
		if err != nil || !same {
			return fmt.Errorf("%d descriptors, error %v", n, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestStalledMakeRoom: connections that owe the rest of a frame do not keep an MTA out,
// those between two frames are left alone.
func TestStalledMakeRoom(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		g := startTarget(t, network, "--max-sessions", "4")
		g.idle(t)
		silent := g.mtaFrom(t, 1)
		var stalled []net.Conn
		for range 3 {
			m := g.mtaFrom(t, 1)
			if err := m.SendRaw([]byte{0, 0, 1}); err != nil {
				t.Fatal(err)
			}
			stalled = append(stalled, m.Conn)
		}
		err := lab.Poll(noticeTimeout, "the stalled connections to make room", func() error {
			m := g.mtaFrom(t, 1)
			defer m.Conn.Close()
			return mustAccept(m, message(1))
		})
		if err != nil {
			t.Error(err)
		}
		first := stalled[0] // the others may not have owed it for long enough
		first.SetReadDeadline(time.Now().Add(noticeTimeout))
		if n, err := first.Read(make([]byte, 1)); n > 0 || os.IsTimeout(err) {
			t.Errorf("%s: a stalled connection is still there: %v", network, err)
		}
		mustServe(t, network+": one that was silent between two frames", silent)
	}
}
