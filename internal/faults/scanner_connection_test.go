package faults

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// endings end the reply before every so-many-th of its bytes but the first: a reply
// without its end is none, and it is not asked for again.
func endings(fault string, every int, end func(string) ampdptest.Handler) []scannerFault {
	var faults []scannerFault
	for n := 1; n < len(goodReply); n += every {
		faults = append(faults, scannerFault{
			point: "reply, in " + lineAt(n), fault: fault, detail: fmt.Sprintf("byte %d", n),
			h: end(goodReply[:n]), cause: malformed,
		})
	}
	return faults
}

// lineAt names the line of the good reply in which a byte is.
func lineAt(n int) string {
	for _, line := range goodLines {
		if n < len(line)+len("\r\n") {
			name, _, _ := strings.Cut(line, "=")
			return name
		}
		n -= len(line) + len("\r\n")
	}
	return "empty line"
}

// connectionFaults end before the first byte of a reply.
func connectionFaults() []scannerFault {
	faults := []scannerFault{
		{point: "connect", fault: "stopped", before: stopScanner, after: restart},
		{point: "connect", fault: "killed", before: killScanner, after: restart},
		{point: "connect", fault: "not allowed", before: chmodSocket(0), after: chmodSocket(0o666)},
		{point: "accepted", fault: "ends", h: ampdptest.CloseAtOnce()},
		{point: "request begun", fault: "ends", h: afterBytes(1, closeIt)},
		{point: "request begun", fault: "reset", h: ampdptest.Reset()},
		{point: "request, half", fault: "ends", h: afterBytes(200, closeIt)},
		{point: "request, half", fault: "reset", h: afterBytes(200, resetIt)},
		{point: "request read", fault: "ends", h: ampdptest.HangUp(), requests: 1},
		{point: "request read", fault: "reset", h: readThenReset, requests: 1},
	}
	for _, n := range notSockets {
		faults = append(faults, scannerFault{point: "connect", fault: n.name, before: replaceSocket(n.make), after: restoreSocket})
	}
	for i := range faults {
		faults[i].cause = unavailable
	}
	return faults
}

// overTCPToo keeps the faults that do not take a path.
func overTCPToo(faults []scannerFault) []scannerFault {
	var list []scannerFault
	for _, f := range faults {
		if f.point != "connect" || f.fault == "stopped" {
			list = append(list, f)
		}
	}
	return list
}

// slow makes what hangs fail soon, and narrow has one message at a time scanned.
var (
	slow   = []string{"-T", "1", "-M", "500ms", "--retry-time", "1"}
	narrow = []string{"-m", "1", "-M", "500ms"}
)

// slowFaults last until a time of ours is over.
func slowFaults() []scannerFault {
	faults := []scannerFault{
		{point: "accept", fault: "hangs", before: func(d *daemon) error { return d.scanner.Pause(8) }, after: takeTheLate, cause: timeout},
		{point: "request", fault: "hangs", detail: "nothing read", h: ampdptest.Deaf(), cause: timeout},
		{point: "request", fault: "hangs", detail: "half read", h: afterBytes(200, hang), cause: timeout},
		{point: "request read", fault: "hangs", h: ampdptest.Hang(), requests: 1, cause: timeout},
		{point: "request read", fault: "late", h: lateReply, requests: 1, cause: timeout},
		{point: "reply, all of it", fault: "a byte at a time, slowly", h: drip, requests: 1, cause: timeout},
	}
	for n, line := 1, ""; n < len(goodReply); n++ {
		if at := lineAt(n); at != line || n == len(goodReply)-1 {
			line = at
			faults = append(faults, scannerFault{
				point: "reply, in " + at, fault: "hangs", detail: fmt.Sprintf("byte %d", n),
				h: sendThenHang(goodReply[:n]), requests: 1, cause: timeout,
			})
		}
	}
	return append(faults, fullBacklog())
}

// fullBacklog has the scanner accept nobody, with as many waiting as may.
func fullBacklog() scannerFault {
	var waiting net.Conn
	return scannerFault{
		point: "connect", fault: "backlog full", cause: busy,
		before: func(d *daemon) (err error) {
			waiting, err = fillBacklog(d)
			return err
		},
		after: func(d *daemon) error {
			waiting.Close()
			return resume(d)
		},
	}
}

// fillBacklog takes the only place in the scanner's backlog.
func fillBacklog(d *daemon) (net.Conn, error) {
	if err := d.scanner.Pause(0); err != nil {
		return nil, err
	}
	return net.Dial(d.scanner.Network(), d.scanner.Address())
}

// takeTheLate lets the scanner accept what has waited so long that its client is gone.
func takeTheLate(d *daemon) error {
	requests := len(d.scanner.Requests())
	if err := resume(d); err != nil {
		return err
	}
	return awaitRequests(d, requests+1)
}

func resume(d *daemon) error { return d.scanner.Resume() }

func stopScanner(d *daemon) error { d.scanner.Stop(); return nil }
func killScanner(d *daemon) error { d.scanner.Kill(); return nil }

// restart lets a scanner that was stopped come back.
func restart(d *daemon) error {
	if err := await("the scanner's address to be free", d.scanner.Start); err != nil {
		return err
	}
	if d.scanner.Network() == "tcp" {
		return nil
	}
	return os.Chmod(d.scanner.Address(), 0o666)
}

func chmodSocket(mode os.FileMode) func(*daemon) error {
	return func(d *daemon) error { return os.Chmod(d.scanner.Address(), mode) }
}

// notSockets make something else where the scanner's socket should be.
var notSockets = []struct {
	name string
	make func(path string) error
}{
	{"a file", func(path string) error { return os.WriteFile(path, nil, 0o666) }},
	{"a directory", func(path string) error { return os.Mkdir(path, 0o755) }},
	{"a dead link", func(path string) error { return os.Symlink(path+".gone", path) }},
	{"of datagrams", func(path string) error {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			return err
		}
		// It is of no use once it is closed, but still no stream.
		return errors.Join(os.Chmod(path, 0o666), l.Close())
	}},
}

func replaceSocket(make func(path string) error) func(*daemon) error {
	return func(d *daemon) error {
		d.scanner.Stop()
		return make(d.scanner.Address())
	}
}

func restoreSocket(d *daemon) error {
	if err := os.Remove(d.scanner.Address()); err != nil {
		return err
	}
	return restart(d)
}

// afterBytes reads so many bytes of the request and no more, and then goes on.
func afterBytes(n int, then ampdptest.Handler) ampdptest.Handler {
	return func(c *ampdptest.Conn) {
		if _, err := io.CopyN(io.Discard, c.Conn, int64(n)); err == nil {
			then(c)
		}
	}
}

func closeIt(*ampdptest.Conn)   {}
func resetIt(c *ampdptest.Conn) { c.Reset() }
func hang(c *ampdptest.Conn)    { <-c.Done() }

func readThenReset(c *ampdptest.Conn) {
	if _, err := c.ReadRequest(); err == nil {
		c.Reset()
	}
}

func sendThenHang(part string) ampdptest.Handler {
	return func(c *ampdptest.Conn) {
		if _, err := c.ReadRequest(); err == nil && c.Send(part) == nil {
			c.WaitClosed()
		}
	}
}

// lateReply answers when the client has given up.
func lateReply(c *ampdptest.Conn) {
	if _, err := c.ReadRequest(); err != nil {
		return
	}
	c.WaitClosed()
	_ = c.Send(goodReply) // nobody is there
}

// dripPause is the time between two bytes of a reply that never comes to its end.
const dripPause = 50 * time.Millisecond

func drip(c *ampdptest.Conn) {
	if _, err := c.ReadRequest(); err != nil {
		return
	}
	tick := time.NewTicker(dripPause)
	defer tick.Stop()
	for i := range len(goodReply) {
		select {
		case <-tick.C:
		case <-c.Done():
			return
		}
		if c.Send(goodReply[i:i+1]) != nil {
			return
		}
	}
}
