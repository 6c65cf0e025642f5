package filter

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

const (
	probeInterval = time.Second // between two probes of a dead scanner
	probeTimeout  = time.Second // of one probe
)

// doer is what the scanners need of one scanner: ampdp.Client, and a stand-in where
// time is fake.
type doer interface {
	// Do is ampdp.Client.Do.
	Do(ctx context.Context, req *ampdp.Request) (*ampdp.Reply, error)

	// Probe tells by its nil error that somebody answers at the scanner's socket.
	Probe(ctx context.Context) error
}

// client is the doer that connects to a real scanner.
type client struct{ *ampdp.Client }

// Probe connects and hangs up. A full backlog is an answer as well: who has a
// backlog is there.
func (c client) Probe(ctx context.Context) error {
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, c.Network, c.Address)
	if errors.Is(err, syscall.EAGAIN) {
		return nil
	}
	if err != nil {
		return err
	}
	return conn.Close()
}

// scanner is one amavisd and what the messages before have learnt about it.
type scanner struct {
	doer
	name string // network:address, for the log

	mu          sync.Mutex
	silentSince time.Time // the first refusal after the last answer; zero: no refusal since
	dead        bool      // see bury
	probing     bool      // a prober runs
}

// scanners are all that were configured, in order of preference: a message goes to
// the first one that takes it.
type scanners struct {
	list      []*scanner
	retryTime time.Duration // that one message may spend on repeating itself
	maxWait   time.Duration // that one message may wait before it is scanned
	log       *slog.Logger

	ctx     context.Context // done when the probers are to end
	stop    context.CancelFunc
	ending  sync.Mutex // held to end ctx, and to start a prober
	probers sync.WaitGroup
}

func newScanners(retryTime, maxWait time.Duration, log *slog.Logger) *scanners {
	ctx, stop := context.WithCancel(context.Background())
	return &scanners{retryTime: retryTime, maxWait: maxWait, log: log, ctx: ctx, stop: stop}
}

func (s *scanners) add(name string, d doer) {
	s.list = append(s.list, &scanner{doer: d, name: name})
}

// close ends the probers and waits for them. No other one starts then.
func (s *scanners) close() {
	s.ending.Lock()
	s.stop()
	s.ending.Unlock()
	s.probers.Wait()
}

// fullRetryTime is how long a scanner must have refused before it counts as dead.
func (s *scanners) fullRetryTime() time.Duration { return min(s.retryTime, s.maxWait) }

// isDead returns whether the scanner counts as dead.
func (sc *scanner) isDead() bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.dead
}

// answered notes that somebody is there.
func (s *scanners) answered(sc *scanner) {
	sc.mu.Lock()
	wasSilent := !sc.silentSince.IsZero()
	sc.silentSince, sc.dead = time.Time{}, false
	sc.mu.Unlock()
	if wasSilent {
		s.log.Info("the content scanner answers again", "scanner", sc.name)
	}
}

// refused notes that nobody was there. It tells the log the first time.
func (s *scanners) refused(sc *scanner, err error) {
	sc.mu.Lock()
	wasSilent := !sc.silentSince.IsZero()
	if !wasSilent {
		sc.silentSince = time.Now()
	}
	sc.mu.Unlock()
	if !wasSilent {
		s.log.Warn("the content scanner refuses connections, trying again", "scanner", sc.name, "error", err)
	}
}

// bury marks a scanner as dead if it has done nothing but refuse for the full retry
// time or longer, err being the last of its refusals. One goroutine then watches for
// its return, so that later messages need not: ten thousand clients that wait for a
// dead scanner would take the MTA down.
//
// The caller has just been refused, and either has retried for the full retry time
// itself or has its reply from another scanner. Without that a refusal of long ago,
// followed by no mail, would let the next one bury a scanner that only restarts, and
// the message would fail that should have waited. Beside a scanner that works a
// burial too early hurts nobody: the prober finds the mistake within a second.
func (s *scanners) bury(sc *scanner, err error) {
	sc.mu.Lock()
	silence := time.Since(sc.silentSince)
	died := !sc.dead && !sc.silentSince.IsZero() && silence >= s.fullRetryTime() && s.watch(sc)
	sc.dead = sc.dead || died
	sc.mu.Unlock()
	if !died {
		return
	}
	s.log.Error("the content scanner is down: no mail is sent to it until it answers. "+
		"Check that amavisd runs, listens on this socket, and lets us connect",
		"scanner", sc.name, "refused_for", silence.Round(time.Second), "error", err)
}

// watch starts the prober of a scanner if it has none; false: the end has come. The
// caller holds the scanner's mu.
func (s *scanners) watch(sc *scanner) bool {
	s.ending.Lock()
	defer s.ending.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	if !sc.probing {
		sc.probing = true
		s.probers.Go(func() { s.probe(sc) })
	}
	return true
}

// probe watches a dead scanner until it answers, to the probe or to a message.
func (s *scanners) probe(sc *scanner) {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		if s.probeOnce(sc) {
			s.answered(sc)
		}
		sc.mu.Lock()
		if !sc.dead {
			sc.probing = false
			sc.mu.Unlock()
			return
		}
		sc.mu.Unlock()
	}
}

func (s *scanners) probeOnce(sc *scanner) bool {
	ctx, cancel := context.WithTimeout(s.ctx, probeTimeout)
	defer cancel()
	return sc.Probe(ctx) == nil
}
