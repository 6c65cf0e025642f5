package faults

import (
	"errors"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// pairGroups have both the MTA and amavisd fail with the same message.
func pairGroups() []group {
	args := []string{"--retry-time", "0", "-T", "1", "-M", "500ms"}
	return []group{{name: "MTA and amavisd", options: &options{args: args}, workers: 8, cases: pairCases()}}
}

// mtaMoves are what the MTA does while the scanner has its fault, which would have the
// MTA told this verdict.
var mtaMoves = []struct {
	name string
	do   func(m *miltertest.MTA, frames, again []frame, verdict string) (next bool, err error)
}{
	{"hangs up at once", func(m *miltertest.MTA, frames, _ []frame, _ string) (bool, error) {
		return false, play(m, frames)
	}},
	{"hangs up in the next message", func(m *miltertest.MTA, frames, again []frame, verdict string) (bool, error) {
		err := errors.Join(play(m, frames), wantVerdict(m, verdict))
		return false, errors.Join(err, play(m, again[:len(again)-3]), m.SendRaw([]byte{0, 0, 1}))
	}},
	{"ABORT, then the message again", func(m *miltertest.MTA, frames, again []frame, verdict string) (bool, error) {
		err := errors.Join(play(m, frames[:len(frames)-3]), m.Abort())
		return true, errors.Join(err, play(m, again), wantVerdict(m, verdict))
	}},
	{"the message, then another", func(m *miltertest.MTA, frames, again []frame, verdict string) (bool, error) {
		err := errors.Join(play(m, frames), wantVerdict(m, verdict))
		return true, errors.Join(err, play(m, again), wantVerdict(m, verdict))
	}},
	{"EOM twice", func(m *miltertest.MTA, frames, _ []frame, verdict string) (bool, error) {
		err := errors.Join(play(m, frames), m.SendRaw(frames[len(frames)-1].raw))
		return true, errors.Join(err, wantVerdict(m, verdict), wantVerdict(m, noMessageVerdict))
	}},
	{"QUIT behind EOM", func(m *miltertest.MTA, frames, _ []frame, verdict string) (bool, error) {
		err := errors.Join(play(m, frames), m.Send('Q', nil))
		return false, errors.Join(err, wantVerdict(m, verdict), wantClosed(m))
	}},
}

// pairCases play each move of the MTA with each fault of amavisd.
func pairCases() []faultCase {
	faults := append(connectionFaults(), badReplies()[:6]...)
	for i, f := range slowFaults() {
		if f.fault != "backlog full" && f.point != "accept" && i%3 != 0 {
			faults = append(faults, f)
		}
	}
	var list []faultCase
	for _, f := range faults {
		for _, move := range mtaMoves {
			list = append(list, faultCase{point: f.point + ": " + f.fault, fault: move.name, detail: f.detail, run: func(d *daemon) (*miltertest.MTA, error) {
				if f.h != nil {
					d.scanner.Handle(f.h)
				}
				if f.before != nil {
					if err := f.before(d); err != nil {
						return nil, err
					}
				}
				m, err := d.dial()
				if err != nil {
					return nil, err
				}
				next, err := move.do(m, dialogue(miltertest.Sendmail817, d.queueID()), message(miltertest.Sendmail817, d.queueID()), promised(byDefault, f.cause))
				if !next || err != nil {
					m.Conn.Close()
					m = nil
				}
				if err == nil {
					err = d.settle(connections(m))
				}
				if f.after != nil {
					err = errors.Join(err, f.after(d))
				}
				return m, err
			}})
		}
	}
	return list
}

// connections is how many there are: one or none.
func connections(m *miltertest.MTA) int {
	if m == nil {
		return 0
	}
	return 1
}
