package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// deadMail is how many spool directories of a dead program a start finds, so that it
// sweeps for a while.
const deadMail = 2000

// startCases are what signals do to a program that does not serve yet.
func startCases() []faultCase {
	var cases []faultCase
	for _, point := range []startPoint{
		{name: "start: just executed", reach: func(l *liveStage) error { return nil }},
		{name: "start: the socket is made", reach: func(l *liveStage) error { return awaitPath(l.d.socket) }},
		{name: "start: waiting for the lock", prepare: holdLock, reach: func(l *liveStage) error { return awaitPath(l.pidFile()) }},
		{name: "start: sweeping", prepare: fillSpool, reach: func(l *liveStage) error { return l.awaitSweep() }},
		{name: "start: it serves", reach: func(l *liveStage) error { return l.awaitLog(" serving ") }},
	} {
		for _, signals := range [][]syscall.Signal{
			{unix.SIGTERM}, {unix.SIGINT}, {unix.SIGTERM, unix.SIGTERM}, {unix.SIGKILL}, {unix.SIGTERM, unix.SIGKILL}, {unix.SIGHUP}, {unix.SIGUSR1},
		} {
			if isHarmless(signals[0]) && point.prepare == nil && !strings.Contains(point.name, "serves") {
				continue // before it catches signals these end any program
			}
			var names []string
			for _, sig := range signals {
				names = append(names, strings.TrimPrefix(unix.SignalName(sig), "SIG"))
			}
			cases = append(cases, faultCase{point: point.name, fault: strings.Join(names, " "), run: func(*daemon) (*miltertest.MTA, error) {
				return nil, point.play(signals)
			}})
		}
	}
	return cases
}

// startPoint is how far a start has come.
type startPoint struct {
	name    string
	prepare func(l *liveStage) (undo func(), err error)
	reach   func(l *liveStage) error
}

func isHarmless(sig syscall.Signal) bool { return sig == unix.SIGHUP || sig == unix.SIGUSR1 }

// play starts a program, sends the signals, and looks that it ends and leaves nothing,
// or serves; and that the next one serves in any case.
func (p startPoint) play(signals []syscall.Signal) error {
	d, err := newPlace(options{})
	if err != nil {
		return err
	}
	defer d.remove()
	l := &liveStage{d: d, release: make(chan struct{})}
	d.args = []string{"--pid-file", l.pidFile()}
	undo := func() {}
	if p.prepare != nil {
		if undo, err = p.prepare(l); err != nil {
			return err
		}
		defer undo()
	}
	if err := d.launch(); err != nil {
		return err
	}
	if err := p.reach(l); err != nil {
		return fmt.Errorf("on the way to the point: %w; the program said:\n%s", err, d.log.String())
	}
	for _, sig := range signals {
		if err := d.signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	if err := l.afterStartSignals(signals, undo); err != nil {
		return fmt.Errorf("%w; the program said:\n%s", err, d.log.String())
	}
	return nil
}

func (l *liveStage) afterStartSignals(signals []syscall.Signal, undo func()) error {
	if isHarmless(signals[0]) {
		if err := l.awaitLog("signal="); err != nil {
			return err
		}
		undo()
		if err := l.awaitLog(" serving "); err != nil {
			return err
		}
		l.d.countIdle()
		if err := l.d.check(nil); err != nil {
			return err
		}
		return l.d.stop()
	}
	if err := l.endsInAnyWay(); err != nil {
		return err
	}
	killed := signals[len(signals)-1] == unix.SIGKILL
	if code := l.d.cmd.ProcessState.ExitCode(); code != 0 && code != -1 || code == -1 && !killed && l.d.log.String() != "" {
		return fmt.Errorf("it ended with code %d", code)
	}
	if !killed {
		for _, path := range []string{l.d.socket, l.pidFile()} {
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%s is left, error %v", path, err)
			}
		}
	}
	undo()
	return l.startsAgain()
}

// endsInAnyWay waits for the end of the program. Who gets a signal before it catches
// any ends by it.
func (l *liveStage) endsInAnyWay() error {
	return await("the end of the program", func() error {
		select {
		case <-l.d.ended:
			return nil
		default:
			return errors.New("it runs")
		}
	})
}

func awaitPath(path string) error {
	return await(path, func() error { _, err := os.Lstat(path); return err })
}

// holdLock is another program that sweeps for long.
func holdLock(l *liveStage) (undo func(), err error) {
	if err := makeOurs(l.d.spool); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(l.d.spool, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := giveToAccount(lock.Name()); err != nil {
		return nil, err
	}
	return func() { lock.Close() }, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
}

// fillSpool is a program that was killed with much mail.
func fillSpool(l *liveStage) (undo func(), err error) {
	if err := makeOurs(l.d.spool); err != nil {
		return nil, err
	}
	var owner unix.Stat_t
	if err := unix.Stat(l.d.spool, &owner); err != nil {
		return nil, err
	}
	for i := range deadMail {
		dir := filepath.Join(l.d.spool, fmt.Sprintf("amavis-milter-DEAD%05d", i))
		if err := errors.Join(os.Mkdir(dir, 0o750), os.Chown(dir, int(owner.Uid), int(owner.Gid))); err != nil {
			return nil, err
		}
	}
	return func() {}, nil
}

// awaitSweep waits until the first of the dead mail is gone.
func (l *liveStage) awaitSweep() error {
	return await("the sweep", func() error {
		left, err := l.d.leftInSpool()
		if err == nil && len(left) == deadMail {
			err = errors.New("nothing is removed")
		}
		return err
	})
}

// makeOurs makes a directory of the program's.
func makeOurs(dir string) error {
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	return giveToAccount(dir)
}
