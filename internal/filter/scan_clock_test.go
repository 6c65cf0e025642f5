package filter

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

// phase is what a scanner does until a time since its start.
type phase struct {
	until time.Duration
	err   error         // nil: a reply
	takes time.Duration // for one try
}

// inPhases goes through the phases by the clock; the last one never ends.
func (f *fakeScanner) inPhases(phases ...phase) *fakeScanner {
	f.do = func(context.Context) error {
		for i, p := range phases {
			if time.Since(f.start) < p.until || i == len(phases)-1 {
				time.Sleep(p.takes)
				return p.err
			}
		}
		return nil
	}
	return f
}

// The retry time counts from the last sign of life: a scanner that was busy, or has
// taken a whole request, has the whole of it again. Neither that nor the longest
// wait counts the time that a scanner spent on the message.
func TestRetryClock(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name    string
		phases  []phase
		maxWait time.Duration
		cause   Cause
		least   time.Duration // that it takes
		most    time.Duration
		sends   int
	}{
		{
			"refused, long busy, one hang-up",
			[]phase{{s, refused, 0}, {31 * s, busy, 0}, {31*s + maxBackOff, hungUp, maxBackOff}, {0, nil, 0}},
			maxWait, "", 31 * s, 40 * s, 1,
		},
		{
			"refused, long busy, refused again",
			[]phase{{s, refused, 0}, {31 * s, busy, 0}, {0, refused, 0}},
			maxWait, CauseUnavailable, 61 * s, 64 * s, 0,
		},
		{
			"each request is scanned for longer than the retry time, then dropped",
			[]phase{{0, hungUp, 40 * s}}, maxWait, CauseUnavailable, 160 * s, 167 * s, maxSends,
		},
		{
			"the same with a longest wait that is shorter",
			[]phase{{0, hungUp, 40 * s}}, 20 * s, CauseUnavailable, 160 * s, 167 * s, maxSends,
		},
		{
			"two long scans, then refusals",
			[]phase{{80 * s, hungUp, 40 * s}, {0, refused, 0}}, maxWait, CauseUnavailable, 110 * s, 150 * s, 2,
		},
		{
			"two long scans, then busy until the longest wait is over",
			[]phase{{80 * s, hungUp, 40 * s}, {0, busy, 0}}, 100 * s, CauseBusy, 180 * s, 180 * s, 2,
		},
		{
			"refusals that take their time are waiting",
			[]phase{{0, refused, 10 * s}}, maxWait, CauseUnavailable, 40 * s, 60 * s, 0,
		},
		{
			"refused and busy in turn never outlast the longest wait",
			[]phase{{100 * s, refused, 0}, {0, busy, 0}}, 20 * s, CauseUnavailable, 20 * s, 20 * s, 0,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := new(fakeScanner).inPhases(c.phases...)
				do, sends := f.do, 0
				f.do = func(ctx context.Context) error {
					err := do(ctx)
					if err == hungUp {
						sends++
					}
					return err
				}
				r := newRig(retryTime, c.maxWait, f)
				defer r.close()
				cause, took, err := r.ask(t.Context())
				if cause != c.cause || took < c.least || took > c.most {
					t.Errorf("cause %q (%v) after %v, want %q after %v to %v", cause, err, took, c.cause, c.least, c.most)
				}
				if sends != c.sends {
					t.Errorf("%d whole requests, want %d", sends, c.sends)
				}
			})
		})
	}
}

// When the deadline comes together with the end of a wait, the message fails of what
// it has waited for, never as one that a scanner took too long over: none had it.
func TestDeadlineAtTheEndOfAWait(t *testing.T) {
	const rounds = 50 // which of the two is seen first is chance
	for _, c := range []struct {
		cause Cause
		errno syscall.Errno
	}{{CauseUnavailable, syscall.ECONNREFUSED}, {CauseBusy, syscall.EAGAIN}} {
		for range rounds {
			synctest.Test(t, func(t *testing.T) {
				client := &ampdp.Client{Network: "unix", Address: "/scanner", Dial: func(context.Context, string, string) (net.Conn, error) {
					return nil, &net.OpError{Op: "dial", Net: "unix", Err: c.errno}
				}}
				req := &ampdp.Request{Sender: "<>", Recipients: []string{"<ann@example.net>"}, TempDir: "/w/x", MailFile: "/w/x/email.txt", DeliveryCareOf: ampdp.CareOfClient}
				r := newRig(time.Second, time.Second, &fakeScanner{do: func(ctx context.Context) error {
					_, err := client.Do(ctx, req)
					return err
				}})
				defer r.close()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				cause, took, err := r.ask(ctx)
				if cause != c.cause || took != time.Second || !errors.Is(err, c.errno) {
					t.Errorf("%q (%v) after %v, want %q for %v", cause, err, took, c.cause, c.errno)
				}
			})
		}
	}
}

// What a try finds out just as the deadline comes counts, unless it is nothing.
func TestDeadlineInATry(t *testing.T) {
	cutShort := &ampdp.Error{Cause: ampdp.CauseUnavailable, Err: context.DeadlineExceeded}
	for _, c := range []struct {
		name         string
		first, later error
		cause        Cause
	}{
		{"nothing, after a refusal", refused, cutShort, CauseUnavailable},
		{"nothing, after it was busy", busy, cutShort, CauseBusy},
		{"busy, after a refusal", refused, busy, CauseBusy},
		{"it drops the request, after it was busy", busy, hungUp, CauseUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				r := newRig(retryTime, maxWait, &fakeScanner{do: func(ctx context.Context) error {
					if tries++; tries == 1 {
						return c.first
					}
					<-ctx.Done()
					return c.later
				}})
				defer r.close()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if cause, took, err := r.ask(ctx); cause != c.cause || took != time.Second || tries != 2 {
					t.Errorf("%q (%v) after %v and %d tries, want %q", cause, err, took, tries, c.cause)
				}
			})
		})
	}
}
