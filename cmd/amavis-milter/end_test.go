package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/daemon"
	"github.com/amavis-milter/amavis-milter/internal/spool"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// lockSpool holds the spool's lock as another instance does that sweeps for long.
func (s *site) lockSpool() {
	s.t.Helper()
	home := filepath.Join(s.dir, "milter")
	if err := os.Mkdir(home, 0o750); err != nil {
		s.t.Fatal(err)
	}
	s.give(home)
	lock, err := os.OpenFile(filepath.Join(home, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { lock.Close() })
	s.give(lock.Name())
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		s.t.Fatal(err)
	}
}

// TestLockWaitIsShorterThanTheParents: the parent of a daemon that waits for the
// spool's lock must still be there to say what it waited for. The socket's and the
// pid file's directory are locked before that, for 5 s each at most.
func TestLockWaitIsShorterThanTheParents(t *testing.T) {
	const before, margin = 2 * 5 * time.Second, 3 * time.Second
	if spool.LockWait+before+margin > daemon.StartTimeout {
		t.Errorf("the spool waits %v, the parent %v: nobody would learn the reason", spool.LockWait, daemon.StartTimeout)
	}
}

// TestSignalDuringStart: an instance that waits for another one's sweep obeys TERM
// and INT, and leaves nothing.
func TestSignalDuringStart(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run("foreground "+sig.String(), func(t *testing.T) {
			s := newSite(t, ampdptest.Continue())
			s.lockSpool()
			p := s.launch(s.command("-f"))
			s.awaitFile(s.pid)
			begin := time.Now()
			p.signal(sig)
			p.exits(0)
			if took := time.Since(begin); took > patience/2 {
				t.Errorf("took %v", took)
			}
		})
	}
	t.Run("daemon", func(t *testing.T) {
		s := newSite(t, ampdptest.Continue())
		s.lockSpool()
		p := s.launch(s.command())
		s.awaitFile(s.pid)
		if err := syscall.Kill(s.readPID(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.exits(daemon.ExitUnavailable)
		if want := "amavis-milter: a signal ended the daemon before it served\n"; p.log.String() != want {
			t.Errorf("the parent says %q, want %q", p.log.String(), want)
		}
	})
}

func (s *site) awaitFile(path string) {
	s.t.Helper()
	await(s.t, path+" is made", func() bool { _, err := os.Lstat(path); return err == nil })
}

// TestSecondSignalPassesNothing: mail whose end arrives at the very moment of the
// second signal is refused for now, whatever --on-failure says of a spool that
// fails: it does not fail, it is closed.
func TestSecondSignalPassesNothing(t *testing.T) {
	const rounds, messages = 4, 100
	for round := range rounds {
		s := newSite(t, ampdptest.Hang())
		p := s.start("--on-failure", "spool=accept")
		var mtas []*miltertest.MTA
		for range messages {
			m := s.mta()
			if err := m.SendUpTo(message(), "eom"); err != nil {
				t.Fatal(err)
			}
			mtas = append(mtas, m)
		}
		await(t, "all are stored", func() bool { return s.stored() == messages })
		p.signal(syscall.SIGTERM)
		await(t, "the first signal is logged", func() bool { return strings.Contains(p.log.String(), "signal=terminated") })
		var sent sync.WaitGroup
		for i, m := range mtas {
			if i == (round+1)*messages/(rounds+1) {
				p.signal(syscall.SIGTERM)
			}
			sent.Go(func() {
				if answer, err := m.EOM(); err == nil && (answer.Code == 'a' || answer.Code == 'c') {
					t.Errorf("a message passed unscanned: %v", answer)
				}
			})
		}
		sent.Wait()
		p.exits(0)
	}
}

// stored counts the messages in the spool.
func (s *site) stored() int {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, "milter"))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(entries) - 1 // without the lock
}
