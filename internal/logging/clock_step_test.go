package logging

import (
	"errors"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/clocktest"
)

// Lines go to syslog again when the pause is over, however the clock was set
// meanwhile: an hour without a log would hide what else went wrong.
func TestClockStepAndSyslog(t *testing.T) {
	for _, step := range clocktest.Steps {
		t.Run(step.String(), func(t *testing.T) {
			s, path, _ := newTestSyslog(t)
			s.sink.now = time.Now
			l := listenDatagrams(t, path)
			s.sink.downUntil = clocktest.BeforeStep(t, time.Now().Add(time.Minute), step)
			if err := handle(s, "too early"); !errors.Is(err, errLost) {
				t.Errorf("in the pause: %v", err)
			}
			s.sink.downUntil = clocktest.BeforeStep(t, time.Now(), step)
			if err := handle(s, "back"); err != nil {
				t.Errorf("after the pause: %v", err)
			}
			receive(t, l)
			receive(t, l)
		})
	}
}
