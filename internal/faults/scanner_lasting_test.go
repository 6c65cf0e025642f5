package faults

import (
	"errors"
	"fmt"
	"strings"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// noSlot has another message take the only slot for longer than a message waits. It
// is scanned in the end.
func noSlot() scannerFault {
	var (
		first   *miltertest.MTA
		release chan struct{}
	)
	return scannerFault{
		point: "slot", fault: "none free", cause: busy,
		before: func(d *daemon) (err error) {
			release = make(chan struct{})
			d.scanner.Handle(ampdptest.Hold(release, good))
			requests := len(d.scanner.Requests())
			if first, err = d.open(miltertest.Postfix37); err != nil {
				return err
			}
			return awaitRequests(d, requests+1)
		},
		after: func(*daemon) error {
			close(release)
			defer first.Conn.Close()
			return wantVerdict(first, goodVerdict)
		},
	}
}

func awaitRequests(d *daemon, n int) error {
	return await("a request to the scanner", func() error {
		if got := len(d.scanner.Requests()); got < n {
			return fmt.Errorf("there were %d, want %d", got, n)
		}
		return nil
	})
}

// retriedFaults happen to the first requests of a message and not to the last one.
// The message passes.
func retriedFaults() []scannerFault {
	var faults []scannerFault
	for _, f := range connectionFaults() {
		if f.h == nil {
			faults = append(faults, undone(f))
			continue
		}
		bad := f.h
		for times, requests := 1, f.requests; times <= 2; times++ {
			handlers := append([]ampdptest.Handler{bad, bad}[:times:times], goodIfWhole)
			f.h, f.detail = ampdptest.Script(handlers...), fmt.Sprintf("%d times", times)
			f.requests = requests*times + 1
			faults = append(faults, f)
		}
	}
	faults = append(faults, undone(fullBacklog()), killedWhileItScans())
	for i := range faults {
		faults[i].cause, faults[i].verdict = "", goodVerdict
	}
	return faults
}

// What stands in the log.
const (
	triedInVain  = "a try failed" // at level debug
	answersAgain = "the content scanner answers again"
	allDead      = "every content scanner is down"
)

// undone has a fault end as soon as the scanner was asked in vain.
func undone(f scannerFault) scannerFault {
	fault, undo := f.before, f.after
	var end <-chan error
	f.before = func(d *daemon) error {
		if err := fault(d); err != nil {
			return err
		}
		d.scanner.Handle(goodIfWhole)
		seen := strings.Count(d.log.String(), triedInVain)
		end = meanwhile(func() error {
			err := await("a try", func() error {
				if strings.Count(d.log.String(), triedInVain) == seen {
					return errors.New("there was none")
				}
				return nil
			})
			return errors.Join(err, undo(d))
		})
		return nil
	}
	f.after = func(*daemon) error { return <-end }
	return f
}

// killedWhileItScans has the scanner killed with a whole request, and started again.
func killedWhileItScans() scannerFault {
	f := scannerFault{point: "request read", fault: "killed", requests: 2}
	var end <-chan error
	f.before = func(d *daemon) error {
		d.scanner.Handle(ampdptest.Hang())
		requests := len(d.scanner.Requests())
		end = meanwhile(func() error {
			err := awaitRequests(d, requests+1)
			d.scanner.Kill()
			d.scanner.Handle(goodIfWhole)
			return errors.Join(err, restart(d))
		})
		return nil
	}
	f.after = func(*daemon) error { return <-end }
	return f
}

// meanwhile does something while the message is on its way.
func meanwhile(what func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- what() }()
	return done
}

// lastingFaults last longer than the retry time. What is sent whole is sent four times
// at most.
func lastingFaults() []scannerFault {
	var faults []scannerFault
	for _, f := range connectionFaults() {
		switch {
		case f.h == nil:
			f.after = untilItIsBack(f.after)
		case f.requests > 0:
			f.requests = mostRequests
		}
		faults = append(faults, f)
	}
	dead := scannerFault{point: "connect", fault: "dead", detail: "fails at once", cause: unavailable}
	dead.after = func(d *daemon) error {
		err := await("the reason in the log", func() error {
			if !strings.Contains(d.log.String(), allDead) {
				return fmt.Errorf("it does not say %q", allDead)
			}
			return nil
		})
		return errors.Join(err, untilItIsBack(restart)(d))
	}
	dead.before = func(d *daemon) error {
		d.scanner.Stop()
		m, err := d.open(miltertest.Sendmail817)
		if err == nil {
			defer m.Conn.Close()
			err = wantVerdict(m, unavailableVerdict)
		}
		return err
	}
	return append(faults, dead)
}

// mostRequests is how often a whole request is sent for one message.
const mostRequests = 4

// untilItIsBack brings a scanner back that counts as dead, and waits until the program
// has found out.
func untilItIsBack(restart func(*daemon) error) func(*daemon) error {
	return func(d *daemon) error {
		back := strings.Count(d.log.String(), answersAgain)
		if err := restart(d); err != nil {
			return err
		}
		return await("a probe of the scanner", func() error {
			if strings.Count(d.log.String(), answersAgain) == back {
				return errors.New("the program has not noticed that it is back")
			}
			return nil
		})
	}
}
