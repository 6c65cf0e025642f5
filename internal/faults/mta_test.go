package faults

import (
	"fmt"
	"net"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// mtaGroups are the faults of the MTA, at every frame of its dialogue; of one that
// waits only at the end of a message, and of one that waits for every answer.
func mtaGroups() []group {
	current, old := dialogue(miltertest.Sendmail817, ""), dialogue(miltertest.Version2, "")
	return []group{
		{name: "MTA", options: &options{}, workers: 2, cases: atEachFrame(miltertest.Sendmail817, current, frameFaults())},
		{name: "MTA", variant: "version 2", options: &options{}, workers: 2, cases: atEachFrame(miltertest.Version2, old, frameFaults())},
		{name: "MTA", variant: "silent", options: &options{args: silent}, workers: 16, cases: atEachFrame(miltertest.Sendmail817, current, silences())},
		{name: "MTA", variant: "silent, version 2", options: &options{args: silent}, workers: 16, cases: atEachFrame(miltertest.Version2, old, silences())},
		{name: "MTA, verdict", options: &options{}, workers: 4, cases: verdictCases()},
		{name: "MTA, order of frames", options: &options{}, workers: 2, cases: orderCases()},
	}
}

// A frameFault is what an MTA does instead of, in the middle of, or behind a frame. The
// frames before that have been sent, and answered where there is an answer.
type frameFault struct {
	name   string
	detail string
	not    string // at the frame of this name; empty: at all

	// do returns the connection if the next message is to come over it.
	do func(d *daemon, m *miltertest.MTA, f frame) (*miltertest.MTA, error)
}

func atEachFrame(o miltertest.Offer, frames []frame, faults []frameFault) []faultCase {
	var list []faultCase
	for i, f := range frames {
		for _, fault := range faults {
			if fault.not == f.name {
				continue
			}
			list = append(list, faultCase{point: f.name, fault: fault.name, detail: fault.detail, run: func(d *daemon) (*miltertest.MTA, error) {
				d.scanner.Handle(good)
				frames := dialogue(o, d.queueID())
				m, err := d.dial()
				if err != nil {
					return nil, err
				}
				if err := play(m, frames[:i]); err != nil {
					m.Conn.Close()
					return nil, err
				}
				next, err := fault.do(d, m, frames[i])
				if next == nil {
					m.Conn.Close()
				}
				return next, err
			}})
		}
	}
	return list
}

// frameFaults are over at once.
func frameFaults() []frameFault {
	const first = "OPTNEG"
	return []frameFault{
		{name: "hangs up before", do: hangUp},
		{name: "hangs up in it", detail: "in the length", do: sendPart(hangUp, func(int) int { return 2 })},
		{name: "hangs up in it", detail: "behind the length", do: sendPart(hangUp, func(int) int { return 4 })},
		{name: "hangs up in it", detail: "half", do: sendPart(hangUp, func(n int) int { return 4 + (n-4)/2 })},
		{name: "hangs up in it", detail: "one byte missing", do: sendPart(hangUp, func(n int) int { return n - 1 })},
		{name: "hangs up after", do: sendPart(hangUp, func(n int) int { return n })},
		{name: "closes for writing", do: halfClose},
		{name: "ABORT", not: first, do: abort},
		{name: "QUIT", do: sendThenClosed(miltertest.Frame('Q', nil))},
		{name: "QUIT_NC", not: first, do: quitNewConnection},
		{name: "length 0", do: sendThenClosed([]byte{0, 0, 0, 0})},
		{name: "length 1 MiB+2", do: sendThenClosed([]byte{0, 0x10, 0, 2, 'B'})},
		{name: "length 4 GiB-1", do: sendThenClosed([]byte{0xff, 0xff, 0xff, 0xff, 'B'})},
		{name: "unknown command", do: sendThenClosed(miltertest.Frame('z', []byte("x\x00")))},
		{name: "malformed", detail: "CONNECT", do: sendThenClosed(miltertest.Frame('C', []byte("host")))},
		{name: "malformed", detail: "MAIL", do: sendThenClosed(miltertest.Frame('M', []byte("<a@b>")))},
		{name: "malformed", detail: "RCPT", do: sendThenClosed(miltertest.Frame('R', nil))},
		{name: "malformed", detail: "header", do: sendThenClosed(miltertest.Frame('L', []byte("Subject\x00")))},
		{name: "malformed", detail: "macros", do: sendThenClosed(miltertest.Frame('D', nil))},
		{name: "another protocol", detail: "SMTP", do: sendThenClosed([]byte("EHLO mx.example.org\r\n"))},
		{name: "another protocol", detail: "TLS", do: sendThenClosed([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))},
		{name: "OPTNEG again", not: first, do: func(d *daemon, m *miltertest.MTA, _ frame) (*miltertest.MTA, error) {
			return sendThenClosed(dialogue(miltertest.Sendmail817, "")[0].raw)(d, m, frame{})
		}},
	}
}

// silent makes an MTA's silence last a second.
var silent = []string{"-t", "1"}

// silences last longer than the MTA may be silent.
func silences() []frameFault {
	return []frameFault{
		{name: "stalls before", do: stall},
		{name: "stalls in it", do: sendPart(stall, func(n int) int { return n - 1 })},
	}
}

func hangUp(_ *daemon, m *miltertest.MTA, _ frame) (*miltertest.MTA, error) {
	return nil, m.Conn.Close()
}

// stall says nothing more until the program has had enough.
func stall(d *daemon, m *miltertest.MTA, _ frame) (*miltertest.MTA, error) {
	began := time.Now()
	if err := wantClosed(m); err != nil {
		return nil, err
	}
	if took := time.Since(began); took < time.Second/2 {
		return nil, fmt.Errorf("closed after %v, too soon", took)
	}
	return nil, nil
}

// sendPart sends so many bytes of a frame of n bytes first.
func sendPart(then func(*daemon, *miltertest.MTA, frame) (*miltertest.MTA, error), part func(n int) int) func(*daemon, *miltertest.MTA, frame) (*miltertest.MTA, error) {
	return func(d *daemon, m *miltertest.MTA, f frame) (*miltertest.MTA, error) {
		if err := m.SendRaw(f.raw[:part(len(f.raw))]); err != nil {
			return nil, err
		}
		return then(d, m, f)
	}
}

// sendThenClosed sends what the program must not bear.
func sendThenClosed(raw []byte) func(*daemon, *miltertest.MTA, frame) (*miltertest.MTA, error) {
	return func(_ *daemon, m *miltertest.MTA, _ frame) (*miltertest.MTA, error) {
		if err := m.SendRaw(raw); err != nil {
			return nil, err
		}
		return nil, wantClosed(m)
	}
}

// halfClose says that nothing more will come, and reads on.
func halfClose(_ *daemon, m *miltertest.MTA, _ frame) (*miltertest.MTA, error) {
	if err := m.Conn.(*net.UnixConn).CloseWrite(); err != nil {
		return nil, err
	}
	return nil, wantClosed(m)
}

// abort drops the message and goes on with the next one.
func abort(_ *daemon, m *miltertest.MTA, _ frame) (*miltertest.MTA, error) {
	return m, m.Abort()
}

// quitNewConnection ends the SMTP client's connection and keeps the MTA's own
// (SMFIC_QUIT_NC); a new client comes over it.
func quitNewConnection(d *daemon, m *miltertest.MTA, _ frame) (*miltertest.MTA, error) {
	if err := m.Send('K', nil); err != nil {
		return nil, err
	}
	return m, play(m, dialogue(miltertest.Sendmail817, d.queueID())[1:4])
}
