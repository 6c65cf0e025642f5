package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// How a milter at rest is measured, and how much more of anything it may have then
// than it had at the first measurement.
const (
	restPatience  = 40 * time.Second // until it is at rest after the last mail
	rest          = 8 * time.Second  // without a change: by then it has given memory back
	mostMore      = 10               // of a hundred
	fewDescriptor = 2                // descriptors that are never too many more
)

// use is what a milter at rest has.
type use struct {
	instance    int
	memory      int64 // bytes, resident
	own         int64 // of that, without the program's file
	descriptors int
}

func (u use) String() string {
	return fmt.Sprintf("%s resident, %s of it not the program's file, %d descriptors", megabytes(u.memory), megabytes(u.own), u.descriptors)
}

// measure waits until no mail is in the spool of a milter and its descriptors stay
// the same, and returns what it has. No client may send mail meanwhile.
func measure(t *testing.T, u *unit) use {
	t.Helper()
	milter, number := u.Current()
	now := use{instance: number}
	last := time.Now()
	err := lab.Poll(restPatience, "the milter to be at rest", func() error {
		names, err1 := lab.SpoolOf(u.workDir)
		n, err2 := milter.Descriptors()
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if len(names) > 0 || n != now.descriptors {
			last, now.descriptors = time.Now(), n
		}
		if time.Since(last) < rest {
			return fmt.Errorf("in its spool are %q, descriptors: %d", names, n)
		}
		return nil
	})
	if err == nil {
		var err2 error
		now.memory, err = milter.Memory()
		now.own, err2 = milter.OwnMemory()
		err = errors.Join(err, err2)
	}
	if err != nil {
		t.Errorf("amavis-milter for %s: %v", u.mta.Name, err)
	}
	return now
}

// mustNotHaveGrown compares two measurements of one instance; spare are bytes of
// memory that are never too many more.
func mustNotHaveGrown(t *testing.T, u *unit, first, last use, spare int64) {
	t.Helper()
	if first.instance != last.instance {
		t.Errorf("%s: instance %d was measured first, instance %d last", u.mta.Name, first.instance, last.instance)
	}
	if most := first.memory + max(first.memory*mostMore/100, spare); last.memory > most {
		t.Errorf("%s: the milter has %s, want at most %s", u.mta.Name, last, megabytes(most))
	}
	if most := first.descriptors + max(first.descriptors*mostMore/100, fewDescriptor); last.descriptors > most {
		t.Errorf("%s: the milter has %s, want at most %d", u.mta.Name, last, most)
	}
}
