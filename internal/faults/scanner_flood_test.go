package faults

import (
	"fmt"
	"strings"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

const (
	flood = 64 << 20 // bytes of a reply

	// mostMemory is what the program may have resident at most while it is flooded,
	// in bytes; the race detector takes several times as much.
	mostMemory     = 100 << 20
	mostMemoryRace = 400 << 20

	// The most that is read of a reply (ampdp/limits.go), told here once more: a
	// change of it is to be seen.
	longestLine    = 4 << 20
	longestReply   = 16 << 20
	mostAttributes = 100_000
)

// floods are replies that are too large, or just not.
func floods() []scannerFault {
	line := strings.Repeat("x", 1<<16)
	filler := "x=" + strings.Repeat("y", 998) + "\r\n" // 1002 bytes
	faults := []scannerFault{
		{point: "one line", fault: "64 MiB", h: pour("x="+line, line), cause: malformed},
		{point: "one line", fault: "endless", h: pour("", line), cause: malformed},
		{point: "many lines", fault: "64 MiB", h: pour("", filler), cause: malformed},
		{point: "many lines", fault: "endless", detail: "of one byte", h: pour("", strings.Repeat("x=\n", 1000)), cause: malformed},
		{point: "NULs", fault: "64 MiB", h: pour("", strings.Repeat("\x00", 1<<16)), cause: malformed},
		{point: "behind the reply", fault: "64 MiB", h: pour(goodReply, line), verdict: goodVerdict},
		{point: "edits", fault: "64 MiB", h: pour("", ampdptest.Line("addheader", "X-A", strings.Repeat("z", 900))+"\r\n"), cause: malformed},
	}
	limits := []struct {
		point string
		most  int
		reply func(n int) string
	}{
		{"one line", longestLine, func(n int) string { return strings.Repeat("x", n-1) + "=\r\n" + goodReply }},
		{"attributes", mostAttributes, func(n int) string { return strings.Repeat("x=\n", n-len(goodLines)) + goodReply }},
		{"many lines", longestReply, func(n int) string {
			n -= len(goodReply)
			return strings.Repeat(filler, n/len(filler)-1) + "x=" + strings.Repeat("y", n%len(filler)+len(filler)-len("x=\r\n")) + "\r\n" + goodReply
		}},
	}
	for _, l := range limits {
		faults = append(faults,
			scannerFault{point: l.point, fault: "limit-1", h: large(l.reply, l.most-1), verdict: goodVerdict},
			scannerFault{point: l.point, fault: "limit", h: large(l.reply, l.most), verdict: goodVerdict},
			scannerFault{point: l.point, fault: "limit+1", h: large(l.reply, l.most+1), cause: malformed})
	}
	for i := range faults {
		faults[i].after = boundedMemory
	}
	return faults
}

// large makes a reply of size n when it is asked for.
func large(reply func(n int) string, n int) ampdptest.Handler {
	return func(c *ampdptest.Conn) { ampdptest.Raw(reply(n))(c) }
}

// pour sends the beginning and then pieces until a flood has been sent or the client
// has hung up.
func pour(beginning, piece string) ampdptest.Handler {
	return func(c *ampdptest.Conn) {
		if _, err := c.ReadRequest(); err != nil || c.Send(beginning) != nil {
			return
		}
		for sent := 0; sent < flood; sent += len(piece) {
			if c.Send(piece) != nil {
				return
			}
		}
		c.WaitClosed()
	}
}

// boundedMemory looks at the most that was ever resident.
func boundedMemory(d *daemon) error {
	most := int64(mostMemory)
	if withRaceDetector {
		most = mostMemoryRace
	}
	peak, err := d.memory("VmHWM")
	if err == nil && peak > most {
		err = fmt.Errorf("%d bytes were resident, want %d at most", peak, most)
	}
	return err
}
