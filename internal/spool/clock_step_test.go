package spool

import (
	"os"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/clocktest"
)

// What could not be removed is tried again when its pause is over, and not before,
// however the clock was set meanwhile.
func TestClockStepAndWhatIsLeft(t *testing.T) {
	for _, step := range clocktest.Steps {
		t.Run(step.String(), func(t *testing.T) {
			work := workDir(t)
			s := open(t, work)
			m := seal(t, create(t, s, "Q"))
			must(t, os.Rename(m.Dir(), work+"/moved"))
			must(t, os.WriteFile(m.Dir(), nil, 0o600))
			if m.Remove() == nil {
				t.Fatal("it could be removed")
			}
			for ago, want := range map[time.Duration]bool{leftPause / 2: false, leftPause: true} {
				s.leftTried = clocktest.BeforeStep(t, time.Now().Add(-ago), step)
				if e, _ := s.pickLeft(); (e != nil) != want {
					t.Errorf("after %v it is tried again: %v, want %v", ago, e != nil, want)
				}
			}
		})
	}
}
