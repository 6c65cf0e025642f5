package e2e

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// How often and how long things break.
const (
	scannerRest  = 8 * time.Second  // mean time between two troubles of one scanner
	scannerAway  = 3 * time.Second  // the longest, between its end and its start
	scannerPause = 24 * time.Second // the longest that it does nothing, in a run of minutes; longer than soakScanTime
	networkRest  = 4 * time.Second  // mean time between two troubles of one network
	networkBad   = 2 * time.Second  // the longest trouble of a network
	longestStall = 4 * time.Second  // of a connection
	longestDelay = 100 * time.Millisecond
	daemonRest   = 2 * time.Second // mean time between two signals to a milter
)

// scanner is an amavisd and the network before it.
type scanner struct {
	*lab.Amavisd
	name    string
	network *lab.Breaker
}

// trouble is what is broken, and how.
type trouble struct{ who, kind string }

// breakage breaks things at random until it is stopped, and keeps a record.
type breakage struct {
	began  time.Time
	pause  time.Duration // the longest that a scanner does nothing
	stop   chan struct{}
	ending chan struct{} // closed when no milter is to be ended any more
	wg     sync.WaitGroup

	mu     sync.Mutex
	record []string
	counts map[trouble]int
	errs   []error
}

// newBreakage is for a run that takes so long.
func newBreakage(duration time.Duration) *breakage {
	return &breakage{began: time.Now(), pause: min(scannerPause, duration/8), stop: make(chan struct{}), ending: make(chan struct{}), counts: map[trouble]int{}}
}

// note takes down what is being broken.
func (b *breakage) note(who, kind, text string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[trouble{who, kind}]++
	b.record = append(b.record, fmt.Sprintf("%7.2f s %s: %s %s", time.Since(b.began).Seconds(), kind, who, fmt.Sprintf(text, args...)))
}

// count is how often something was broken in a way that begins with these words.
func (b *breakage) count(who, words string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for what, often := range b.counts {
		if what.who == who && strings.HasPrefix(what.kind, words) {
			n += often
		}
	}
	return n
}

// fail takes down what could not be broken or mended.
func (b *breakage) fail(err error) {
	if err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.errs = append(b.errs, err)
	}
}

// rest waits for a random time with this mean; false if all is to end.
func (b *breakage) rest(random *rand.Rand, mean time.Duration) bool {
	return b.wait(time.Duration(min(longestRest, random.ExpFloat64()) * float64(mean)))
}

// wait waits; false if all is to end, which ends the wait.
func (b *breakage) wait(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-b.stop:
		return false
	}
}

// finish mends everything and tells what there was.
func (b *breakage) finish(t *testing.T) string {
	t.Helper()
	close(b.stop)
	b.wg.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := errors.Join(b.errs...); err != nil {
		t.Error(err)
	}
	sums := map[string]int{}
	for what, often := range b.counts {
		sums[what.kind] += often
	}
	var counts []string
	for _, kind := range slices.Sorted(maps.Keys(sums)) {
		counts = append(counts, fmt.Sprintf("%d %s", sums[kind], kind))
	}
	return strings.Join(counts, ", ")
}

// upTo is a random time up to a limit.
func upTo(random *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(most)))
}

// breakScanner is the life of a bad amavisd.
func (b *breakage) breakScanner(s *scanner, random *rand.Rand) {
	for b.rest(random, scannerRest) {
		switch n := random.IntN(10); {
		case n < 2:
			b.restart(s, "amavisd KILL", func() error { s.Kill(); return nil }, random)
		case n < 3:
			b.restart(s, "amavisd TERM", s.Stop, random)
		case n < 6:
			// Most are short; in a long run one of twenty is too long for --amavisd-timeout.
			pause := time.Duration(math.Pow(random.Float64(), 4) * float64(b.pause))
			b.note(s.name, "amavisd STOP", "for %.2f s", pause.Seconds())
			b.fail(s.Pause())
			b.wait(pause)
			b.fail(s.Resume())
		default:
			b.note(s.name, "worker KILL", "")
			b.fail(s.KillWorker(random))
		}
	}
}

// restart does what Debian's service does.
func (b *breakage) restart(s *scanner, kind string, stop func() error, random *rand.Rand) {
	away := upTo(random, scannerAway)
	b.note(s.name, kind, "for %.2f s", away.Seconds())
	b.fail(stop())
	b.wait(away)
	b.fail(s.Clean())
	b.fail(s.Start())
}

// breakNetwork is the life of a bad network: for a while every other connection is
// harmed somewhere, or all that there are end at once. forward and backward are how
// far, in bytes, there is something to harm.
func (b *breakage) breakNetwork(name string, network *lab.Breaker, forward, backward int64, random *rand.Rand) {
	for b.rest(random, networkRest) {
		if random.IntN(3) == 0 {
			reset := random.IntN(2) == 0
			b.note(name, "network cut off", "reset %t: %d connections", reset, network.CutAll(reset))
			continue
		}
		kind := []lab.FaultKind{lab.FaultCut, lab.FaultReset, lab.FaultStall, lab.FaultSlow}[random.IntN(4)]
		bad := upTo(random, networkBad)
		b.note(name, "network "+kind.String(), "for %.2f s", bad.Seconds())
		of := rand.New(rand.NewPCG(random.Uint64(), 0)) // the network calls it as it likes
		network.Break(func() lab.Fault { return randomFault(of, kind, forward, backward) })
		b.wait(bad)
		network.Break(nil)
	}
}

// randomFault is one of a kind after any number of bytes: as often after 10 to 20 as
// after 1,000 to 2,000.
func randomFault(random *rand.Rand, kind lab.FaultKind, forward, backward int64) lab.Fault {
	if random.IntN(2) == 0 {
		return lab.Fault{}
	}
	fault := lab.Fault{Kind: kind, Backward: random.IntN(2) == 0, Time: upTo(random, longestStall)}
	if kind == lab.FaultSlow {
		fault.Time = upTo(random, longestDelay)
	}
	far := forward
	if fault.Backward {
		far = backward
	}
	fault.After = int64(math.Pow(float64(far), random.Float64())) - 1
	return fault
}

// breakDaemon is the life of a milter among signals. From a moment on they are such
// as do not end it.
func (b *breakage) breakDaemon(u *unit, random *rand.Rand) {
	for b.rest(random, daemonRest) {
		sig := []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1}[random.IntN(6)]
		select {
		case <-b.ending:
			sig = syscall.SIGHUP
		default:
		}
		switch sig {
		case syscall.SIGHUP, syscall.SIGUSR1:
			b.note(u.mta.Name, "milter "+signalName(sig), "")
			b.fail(u.Signal(sig))
		default:
			b.fail(b.endDaemon(u, sig))
		}
	}
}

// endDaemon ends a milter by a signal and waits for the next instance.
func (b *breakage) endDaemon(u *unit, sig syscall.Signal) error {
	_, number := u.Current()
	b.note(u.mta.Name, "milter "+signalName(sig), "")
	return errors.Join(u.end(sig), u.Await(number+1))
}

func signalName(sig syscall.Signal) string {
	return map[syscall.Signal]string{
		syscall.SIGKILL: "KILL", syscall.SIGTERM: "TERM", syscall.SIGINT: "INT", syscall.SIGHUP: "HUP", syscall.SIGUSR1: "USR1",
	}[sig]
}
