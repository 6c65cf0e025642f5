package spool

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// TestLockWaitsAround: a lock that somebody else holds is waited for as long as the page
// says, when the spool is opened, when its own sweep is over and somebody has got in
// between, and when milter/ is made again; one that is let go before is had.
func TestLockWaitsAround(t *testing.T) {
	for name, c := range map[string]struct {
		limit time.Duration // docs/SECURITY.md
		try   func(t *testing.T, work string, lock func()) error
	}{
		"opened":     {45 * time.Second, openLocked},
		"swept":      {2 * time.Second, settleLocked},
		"made again": {2 * time.Second, renewLocked},
	} {
		for _, held := range []time.Duration{c.limit - lockPoll, time.Hour} {
			t.Run(name+" "+held.String(), func(t *testing.T) {
				work := workDir(t)
				synctest.Test(t, func(t *testing.T) {
					began := time.Now()
					err := c.try(t, work, func() { lockFor(t, work+"/milter/.lock", held) })
					took := time.Since(began)
					if least := min(held, c.limit); took < least || took > least+lockPoll {
						t.Errorf("took %v, want %v", took, least)
					}
					if (err == nil) != (held < c.limit) {
						t.Error(err)
					}
				})
			})
		}
	}
}

// lockFor locks a file for some time, as an instance does that sweeps.
func lockFor(t *testing.T, path string, held time.Duration) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	fd := int(f.Fd())
	must(t, unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB))
	timer := time.AfterFunc(held, func() { unix.Flock(fd, unix.LOCK_UN) })
	t.Cleanup(func() {
		timer.Stop()
		f.Close()
	})
}

func openLocked(t *testing.T, work string, lock func()) error {
	must(t, os.Mkdir(work+"/milter", 0o750))
	lock()
	s, err := Open(work, Options{})
	if err == nil {
		must(t, s.Close())
	}
	return err
}

// settleLocked: to make an exclusive lock a shared one is not one step everywhere
// (flock(2)), so that somebody else may have it then.
func settleLocked(t *testing.T, work string, lock func()) error {
	s := open(t, work)
	must(t, unix.Flock(s.home.lock, unix.LOCK_UN))
	lock()
	s.home.alone = true
	return s.settle(t.Context(), unix.Stat_t{})
}

// renewLocked: an administrator has removed milter/, and another instance has made it
// again.
func renewLocked(t *testing.T, work string, lock func()) error {
	s := open(t, work)
	must(t, os.RemoveAll(work+"/milter"))
	must(t, os.Mkdir(work+"/milter", 0o750))
	lock()
	s.homeSeen = time.Now().Add(-homeAge)
	d, err := s.Create("Q")
	if err == nil {
		must(t, d.Remove())
	}
	return err
}
