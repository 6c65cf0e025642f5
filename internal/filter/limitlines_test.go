package filter

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/internal/minutely"
)

// A limit that others go beyond at will is one line a minute, with the number of cases,
// whatever other limits are told; what passes unscanned, or is amavisd's failure, is told
// each time.
func TestLimitLines(t *testing.T) {
	const eachTime = -1
	for _, c := range []struct {
		f         *failure
		onFailure OnFailure
		lines     int // of ten messages
	}{
		{&failure{causeHeader, errHeaderTooLarge}, nil, 1},
		{&failure{causeHeader, errHeaderTooLarge}, PassOnFailure(), 1},
		{&failure{causeRequest, ampdp.ErrRequestTooLarge}, nil, 1},
		{&failure{CauseMalformed, fmt.Errorf("x: %w", ampdp.ErrTooLarge)}, nil, 1},
		{&failure{CauseMalformed, fmt.Errorf("x: %w", ampdp.ErrTooLarge)}, OnFailure{CauseMalformed: ActionReject}, 1},
		{&failure{causeRoom, ampdp.ErrNoRoom}, nil, 1},
		{&failure{CauseMalformed, ampdp.ErrTooLarge}, PassOnFailure(), eachTime},
		{&failure{CauseMalformed, ampdp.ErrMalformed}, nil, eachTime},
		{&failure{causeRequest, ampdp.ErrNoTempDir}, nil, eachTime},
		{&failure{causeDelivered, ampdp.ErrTooLarge}, nil, eachTime},
		{&failure{causeHeader, errNamesInAll}, nil, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			log, logged := newLog(0)
			filter := &Filter{opt: Options{Log: log, OnFailure: c.onFailure}}
			tell := func(n int) (lines int) {
				before := len(logged.lines())
				for range n {
					tx := &transaction{filter: filter, env: testEnvelope()}
					tx.failureVerdict(c.f, messageLog(log, tx.env))
				}
				return len(logged.lines()) - before
			}
			want := c.lines
			if want == eachTime {
				want = 10
			}
			if got := tell(10); got != want {
				t.Errorf("%v, %v: %d lines of ten, want %d: %s", c.f.cause, c.f.err, got, want, logged)
			}
			if c.lines != 1 {
				return
			}
			time.Sleep(minutely.Pause - 1) // fake time
			if got := tell(1); got != 0 {
				t.Errorf("%v: %d lines within a minute", c.f.cause, got)
			}
			time.Sleep(time.Nanosecond)
			if got := tell(1); got != 1 || len(logged.lines("cases=11", "cause="+string(c.f.cause))) != 1 || len(logged.lines("cases=1 ")) > 0 {
				t.Errorf("%v: %d lines after a minute: %s", c.f.cause, got, logged)
			}
		})
	}
}
