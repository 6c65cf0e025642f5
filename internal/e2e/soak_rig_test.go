package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// serveTimeout is how long a milter may take from the first connection to service.
const serveTimeout = 10 * time.Second

// unit is one milter that a supervisor keeps running for one MTA. It has a spool of
// its own, for only where nobody else lives is a spool swept at start.
type unit struct {
	*lab.Supervisor
	mta     *lab.MTA
	workDir string
	socket  string       // what it must not leave at an end in order; empty if that is a port
	network *lab.Breaker // between the MTA and it; nil if there is none

	mu     sync.Mutex
	last   syscall.Signal // that ended an instance
	killed int            // instances ended by KILL
	dead   []string       // what the last instance has left in the spool
	swept  int            // of the like, in all
	faults []string       // what an instance left that it must not leave
}

// startUnit runs a milter for an MTA by a supervisor; network and address are where
// it serves.
func startUnit(t *testing.T, u *unit, network, address string, flags ...string) {
	t.Helper()
	flags = append([]string{"-w", u.workDir, "--log-target", "stderr"}, flags...)
	start := func() (*lab.Milter, error) {
		milter, err := lab.StartForeground(binary, network, address, flags...)
		if err != nil {
			return nil, err
		}
		// It can be connected to before it serves.
		return milter, lab.Poll(serveTimeout, "the milter to serve", func() error {
			if !strings.Contains(milter.Output(), " info serving ") {
				return fmt.Errorf("it has only said %q", milter.Output())
			}
			return nil
		})
	}
	var err error
	if u.Supervisor, err = lab.Supervise(start, u.ended, u.startedAgain); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if milter, number := u.Current(); t.Failed() {
			t.Logf("instance %d of amavis-milter for %s said:\n%s", number, u.mta.Name, milter.Output())
		}
		if err := u.Stop(); err != nil {
			t.Errorf("amavis-milter for %s: %v", u.mta.Name, err)
		}
	})
}

// end sends a signal that ends the instance that serves.
func (u *unit) end(sig syscall.Signal) error {
	u.mu.Lock()
	u.last = sig
	u.mu.Unlock()
	return u.Signal(sig)
}

// ended looks at what an instance has left, when it has ended: nothing, but for KILL.
func (u *unit) ended(*lab.Milter) {
	u.mu.Lock()
	defer u.mu.Unlock()
	names, err := lab.SpoolOf(u.workDir)
	u.dead = names
	u.swept += len(names)
	_, number := u.Current()
	if err != nil {
		u.faults = append(u.faults, err.Error())
	}
	if u.last == syscall.SIGKILL {
		u.killed++
		return
	}
	if len(names) > 0 {
		u.faults = append(u.faults, fmt.Sprintf("instance %d ended by %v and left in its spool %q", number, u.last, names))
	}
	if u.socket != "" && lab.Gone(u.socket) != nil {
		u.faults = append(u.faults, fmt.Sprintf("instance %d ended by %v and left its socket", number, u.last))
	}
}

// kills is how many instances were ended by KILL.
func (u *unit) kills() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.killed
}

// startedAgain looks at whether the next instance has swept all that.
func (u *unit) startedAgain(next *lab.Milter) {
	u.mu.Lock()
	defer u.mu.Unlock()
	names, err := lab.SpoolOf(u.workDir)
	if err != nil {
		u.faults = append(u.faults, err.Error())
	}
	_, number := u.Current()
	for _, name := range names {
		if slices.Contains(u.dead, name) {
			u.faults = append(u.faults, fmt.Sprintf("what instance %d has left was not swept at the next start: %s; the next one said:\n%s", number, name, next.Output()))
		}
	}
}

// settle fails the test for what instances have left, for what ended by itself, and
// unless the spool is empty now.
func (u *unit) settle(t *testing.T) {
	t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, fault := range u.faults {
		t.Errorf("amavis-milter for %s: %s", u.mta.Name, fault)
	}
	if err := u.Err(); err != nil {
		t.Errorf("amavis-milter for %s: %v", u.mta.Name, err)
	}
	if names, err := lab.SpoolOf(u.workDir); err != nil || len(names) > 0 {
		t.Errorf("in the spool of amavis-milter for %s: %q, error %v; want nothing", u.mta.Name, names, err)
	}
}

// withoutMilter stops the milter of the pipeline for the time of a test and runs
// all MTAs.
func withoutMilter(t *testing.T, p *lab.Pipeline) {
	t.Helper()
	if err := p.Milter.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.RestartMilter(); err != nil {
			t.Fatal(err)
		}
	})
	for _, mta := range lab.MTAs() {
		if err := os.Remove(mta.MilterSocket); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	if err := p.RunMTAs(); err != nil {
		t.Fatal(err)
	}
}

// watched has the sink give what it gets to a ledger, for the time of a test.
func watched(t *testing.T, p *lab.Pipeline, l *ledger) {
	t.Helper()
	p.Sink.Watch(l.deliver)
	t.Cleanup(func() { p.Sink.Watch(nil) })
}
