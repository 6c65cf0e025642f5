package filter

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
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
