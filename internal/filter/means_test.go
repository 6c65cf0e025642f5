package filter

import (
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/milter"
)

// That we had no descriptors left tells nothing about any scanner: none is rested,
// blamed in the log or buried for it, however long it lasts, and when there are
// descriptors again the next message is scanned at once.
func TestOwnShortageIsNoScannersFault(t *testing.T) {
	for n := 1; n <= 3; n++ {
		t.Run(fmt.Sprint(n, " scanners"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var fakes []*fakeScanner
				for range n {
					fakes = append(fakes, &fakeScanner{do: always(noMeans)})
				}
				r := newRig(retryTime, maxWait, fakes...)
				defer r.close()
				for range 3 {
					if cause, took, err := r.ask(t.Context()); cause != CauseUnavailable || took < retryTime || took > retryTime+maxBackOff {
						t.Errorf("%q (%v) after %v, want unavailable when the retry time is over", cause, err, took)
					}
				}
				for i, sc := range r.list {
					if sc.standing() != inRotation || sc.failures != 0 || time.Until(sc.restUntil) > 0 {
						t.Errorf("scanner %d: standing %d, %d failures, a rest of %v", i, sc.standing(), sc.failures, time.Until(sc.restUntil))
					}
					fakes[i].change(always(nil), nil)
				}
				if r.logged.String() != "" {
					t.Errorf("the log blames somebody: %s", r.logged)
				}
				if cause, took, err := r.ask(t.Context()); err != nil || took != 0 {
					t.Errorf("afterwards: %q (%v) after %v", cause, err, took)
				}
				r.checkIdle(t)
			})
		})
	}
}

// A shortage of ours that a message finds in between costs it one back-off.
func TestShortOwnShortage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{do: inTurn(noMeans, noMeans, nil)}
		r := newRig(retryTime, maxWait, f)
		defer r.close()
		if cause, took, err := r.ask(t.Context()); err != nil || took > 3*minBackOff {
			t.Errorf("%q (%v) after %v", cause, err, took)
		}
	})
}

// Want of descriptors in the spool, of the process or of the host, is no full disk
// and never lets mail pass by -P.
func TestSpoolShortageVerdict(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		f := spoolFailure(fmt.Errorf("making spool directory /w/milter/x: %w", errno))
		v, _ := PassOnFailure().verdict(f, true, new(headerFields), HeaderField{})
		if v.Disposition() != milter.DispositionTempFail || v.Reply() != replyUnavailable {
			t.Errorf("%v: %v %v, want %v", errno, v.Disposition(), v.Reply(), replyUnavailable)
		}
	}
}
