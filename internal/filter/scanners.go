package filter

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

const (
	// failOverConnectTimeout bounds a TCP connect where there is another scanner to
	// go to: two lost packets are made up for, which are sent again after 1 and 3 s.
	failOverConnectTimeout = 4 * time.Second

	// maxFailures is after how many requests in a row without a reply a scanner is
	// told to be unreliable. By then the waits between them are at maxBackOff.
	maxFailures = 8
)

// doer is what the scanners need of one scanner: ampdp.Client, and a stand-in where
// time is fake.
type doer interface {
	// Do is ampdp.Client.Do.
	Do(ctx context.Context, req *ampdp.Request) (*ampdp.Reply, error)

	// Probe tells by its nil error that somebody answers at the scanner's socket,
	// and by an *ampdp.Error with Refused that nobody does.
	Probe(ctx context.Context) error
}

// client is the doer that connects to a real scanner. See prober.go.
type client struct{ *ampdp.Client }

// clients returns the doers of real scanners. Where there are several, a host that
// is down must not cost a message the time that it has for all.
func clients(list []*ampdp.Client) []client {
	doers := make([]client, len(list))
	for i, c := range list {
		if len(list) > 1 && c.ConnectTimeout <= 0 {
			hasty := *c
			hasty.ConnectTimeout = failOverConnectTimeout
			c = &hasty
		}
		doers[i] = client{c}
	}
	return doers
}

// scanner is one amavisd and what the messages before have learnt about it. All but
// the first two fields is guarded by the mu of its scanners.
type scanner struct {
	doer
	name string // network:address, for the log

	load int // requests under way, from choose to release

	silentSince time.Time // the first refusal after the last answer; zero: no refusal since
	backSince   time.Time // the last answer after a refusal
	dead        bool      // see bury
	probing     bool      // a prober runs
	probeWait   time.Duration

	// See rest.
	failures  int // requests in a row without a reply
	failedAt  time.Time
	restUntil time.Time
}

// scanners are all that were configured. A message goes to the least busy one of
// those in rotation: see choose.
type scanners struct {
	list      []*scanner
	retryTime time.Duration // that one message may spend on repeating itself
	maxWait   time.Duration // that one message may wait before it is scanned
	log       *slog.Logger

	// mu is held for no longer than one look at all scanners takes.
	mu   sync.Mutex
	next int // where choose begins to look

	ctx     context.Context // done when the probers are to end; mu is held to end it
	stop    context.CancelFunc
	probers sync.WaitGroup
}

func newScanners(retryTime, maxWait time.Duration, log *slog.Logger) *scanners {
	ctx, stop := context.WithCancel(context.Background())
	return &scanners{retryTime: retryTime, maxWait: maxWait, log: log, ctx: ctx, stop: stop}
}

func (s *scanners) add(name string, d doer) {
	s.list = append(s.list, &scanner{doer: d, name: name})
}

// several reports whether there is a choice. A lone scanner has nothing to be taken
// out of: its mail waits for it.
func (s *scanners) several() bool { return len(s.list) > 1 }

// close ends the probers and waits for them. No other one starts then.
func (s *scanners) close() {
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	s.probers.Wait()
}

// fullRetryTime is how long a scanner must have refused before it counts as dead.
func (s *scanners) fullRetryTime() time.Duration { return min(s.retryTime, s.maxWait) }

// answered notes that somebody took a connection that was begun at the given time,
// which brings the scanner back into rotation. One that had begun before the scanner
// refused shows nothing: what ends comes to its end beside a closed socket.
func (s *scanners) answered(sc *scanner, began time.Time) {
	s.mu.Lock()
	isBack := !sc.silentSince.IsZero() && !began.Before(sc.silentSince)
	if isBack {
		sc.silentSince, sc.dead, sc.backSince = time.Time{}, false, time.Now()
	}
	s.mu.Unlock()
	if isBack {
		s.log.Info("the content scanner answers again", "scanner", sc.name)
	}
}

// refused notes that nobody was there. The first time it takes the scanner out of
// rotation, if there is another one, and tells the log.
func (s *scanners) refused(sc *scanner, err error) {
	s.mu.Lock()
	now := time.Now()
	wasSilent := !sc.silentSince.IsZero()
	if !wasSilent {
		sc.silentSince = now
		if sc.probeWait == 0 || now.Sub(sc.backSince) >= steadyTime {
			sc.probeWait = minBackOff
		}
		if s.several() {
			s.watch(sc)
		}
	}
	s.mu.Unlock()
	switch {
	case wasSilent:
	case s.several():
		s.log.Warn("the content scanner refuses connections: mail goes to the others until it answers", "scanner", sc.name, "error", err)
	default:
		s.log.Warn("the content scanner refuses connections, trying again", "scanner", sc.name, "error", err)
	}
}

// bury marks a scanner as dead if it has done nothing but refuse for the full retry
// time or longer, err being the last of its refusals. When all are dead mail fails at
// once: ten thousand clients that wait for dead scanners would take the MTA down. A
// prober watches for its return.
//
// The caller has just been refused, and has tried for all that time: a message, or
// the prober. Without that a refusal of long ago, followed by no mail, would let the
// next one bury a scanner that only restarts, and the message would fail that should
// have waited.
func (s *scanners) bury(sc *scanner, err error) {
	s.mu.Lock()
	silence := time.Since(sc.silentSince)
	died := !sc.dead && !sc.silentSince.IsZero() && silence >= s.fullRetryTime() && s.ctx.Err() == nil
	if died {
		sc.dead, sc.probeWait = true, probeInterval
		s.watch(sc)
	}
	s.mu.Unlock()
	if !died {
		return
	}
	s.log.Error("the content scanner is down: no mail is sent to it until it answers. "+
		"Check that amavisd runs, listens on this socket, and lets us connect",
		"scanner", sc.name, "refused_for", silence.Round(time.Second), "error", err)
}
