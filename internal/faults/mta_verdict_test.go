package faults

import (
	"net"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// verdictCases are about the end of the message: the verdict is awaited, or comes.
func verdictCases() []faultCase {
	var list []faultCase
	add := func(point, fault string, h ampdptest.Handler, then func(d *daemon, m *miltertest.MTA) (*miltertest.MTA, error)) {
		list = append(list, faultCase{point: point, fault: fault, run: func(d *daemon) (*miltertest.MTA, error) {
			d.scanner.Handle(h)
			requests := len(d.scanner.Requests())
			m, err := d.open(miltertest.Sendmail817)
			if err == nil {
				err = awaitRequests(d, requests+1)
			}
			if err != nil {
				return nil, err
			}
			next, err := then(d, m)
			if next == nil {
				m.Conn.Close()
			}
			return next, err
		}})
	}
	for _, s := range []struct {
		name string
		h    ampdptest.Handler
	}{{"hangs", ampdptest.Hang()}, {"replies slowly", drip}, {"hangs in its reply", sendThenHang(goodReply[:len(goodReply)-2])}} {
		add("amavisd "+s.name, "hangs up", s.h, func(d *daemon, m *miltertest.MTA) (*miltertest.MTA, error) {
			return nil, m.Conn.Close()
		})
		add("amavisd "+s.name, "closes for writing", s.h, func(d *daemon, m *miltertest.MTA) (*miltertest.MTA, error) {
			if err := m.Conn.(*net.UnixConn).CloseWrite(); err != nil {
				return nil, err
			}
			return nil, wantVerdict(m, unavailableVerdict)
		})
	}
	// What comes meanwhile is taken up after the verdict.
	for name, raw := range map[string][]byte{"ABORT": miltertest.Frame('A', nil), "macros": named("", 'D', "M"+zeros("i", "X")).raw} {
		add("amavisd is asked", name, slowGood, func(_ *daemon, m *miltertest.MTA) (*miltertest.MTA, error) {
			if err := m.SendRaw(raw); err != nil {
				return nil, err
			}
			return m, wantVerdict(m, goodVerdict)
		})
	}
	add("amavisd is asked", "QUIT", slowGood, func(_ *daemon, m *miltertest.MTA) (*miltertest.MTA, error) {
		if err := m.Send('Q', nil); err != nil {
			return nil, err
		}
		if err := wantVerdict(m, goodVerdict); err != nil {
			return nil, err
		}
		return nil, wantClosed(m)
	})
	add("amavisd is asked", "garbage", slowGood, func(_ *daemon, m *miltertest.MTA) (*miltertest.MTA, error) {
		if err := m.SendRaw([]byte(randomBytes(2, 500))); err != nil {
			return nil, err
		}
		if err := wantVerdict(m, goodVerdict); err != nil {
			return nil, err
		}
		return nil, wantClosed(m)
	})
	for n := range 12 {
		add("the verdict comes", "hangs up in it", good, func(_ *daemon, m *miltertest.MTA) (*miltertest.MTA, error) {
			_, err := m.Conn.Read(make([]byte, n+1))
			m.Conn.Close()
			return nil, err
		})
	}
	return list
}

// slowGood gives the MTA time to say something meanwhile.
func slowGood(c *ampdptest.Conn) {
	if _, err := c.ReadRequest(); err != nil {
		return
	}
	tick := time.NewTimer(4 * dripPause)
	defer tick.Stop()
	select {
	case <-tick.C:
		_ = c.Send(goodReply)
		c.WaitClosed()
	case <-c.Done():
	}
}
