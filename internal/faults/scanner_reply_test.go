package faults

import (
	"fmt"
	"strings"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// scannerGroups are the faults of amavisd.
func scannerGroups() []group {
	return []group{
		{name: "reply ends at every byte", options: &options{}, workers: 2, cases: cutCases("ends", ampdptest.RawThenHangUp)},
		{name: "reply is reset at every byte", options: &options{network: "tcp"}, workers: 2, cases: cutCases("reset", ampdptest.RawThenReset)},
	}
}

// scanned plays a whole message with this scanner and wants this verdict.
func scanned(h ampdptest.Handler, want string) func(*daemon) (*miltertest.MTA, error) {
	return func(d *daemon) (*miltertest.MTA, error) {
		d.scanner.Handle(h)
		m, err := d.dial()
		if err != nil {
			return nil, err
		}
		if err := play(m, dialogue(miltertest.Sendmail817, d.queueID())); err != nil {
			return m, err
		}
		return m, wantVerdict(m, want)
	}
}

// cutCases end the reply before each of its bytes but the first, by a hang-up or a
// reset: a reply without its end is none.
func cutCases(fault string, end func(string) ampdptest.Handler) []faultCase {
	var cases []faultCase
	for n := 1; n < len(goodReply); n++ {
		cases = append(cases, faultCase{
			point: lineAt(n), fault: fault, detail: fmt.Sprintf("byte %d", n),
			run: scanned(end(goodReply[:n]), unavailableVerdict),
		})
	}
	return cases
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
