package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

const (
	// drainTime is how long messages after DATA may take to finish after TERM or INT.
	drainTime = 8 * time.Second

	// endTime is when the program has ended then: init scripts kill it after 10 s, and
	// the machine may be busy.
	endTime = 11 * time.Second

	// soon is how long what happens at once may take on a busy machine.
	soon = drainTime - time.Second

	// signalWorkers is how many cases run at once: most of them wait.
	signalWorkers = 32

	shutdownVerdict = "reply 451 4.3.2 Service is shutting down, try again later"
)

// signalGroups are what signals do to the program at each stage of a message.
func signalGroups() []group {
	var cases []faultCase
	for _, f := range signalFaults() {
		for _, s := range stages() {
			if f.needsMessage && s.phase == between {
				continue // the same as one signal
			}
			cases = append(cases, faultCase{point: s.name, fault: f.name, run: func(*daemon) (*miltertest.MTA, error) { return nil, s.play(f) }})
		}
	}
	return []group{{name: "signals", workers: signalWorkers, cases: append(cases, startCases()...)}}
}

// signalFault is what is done to the program.
type signalFault struct {
	name         string
	needsMessage bool
	do           func(l *liveStage) error
}

func signalFaults() []signalFault {
	const term, interrupt = syscall.SIGTERM, syscall.SIGINT
	return []signalFault{ // those that wait come first
		{"TERM, stall", true, func(l *liveStage) error { return l.endsStalled(term) }},
		{"INT, stall", true, func(l *liveStage) error { return l.endsStalled(interrupt) }},
		{"TERM", false, func(l *liveStage) error { return l.endsInOrder(term) }},
		{"INT", false, func(l *liveStage) error { return l.endsInOrder(interrupt) }},
		{"TERM TERM", true, func(l *liveStage) error { return l.endsAtOnce(term, term) }},
		{"TERM INT", true, func(l *liveStage) error { return l.endsAtOnce(term, interrupt) }},
		{"KILL", false, func(l *liveStage) error { return l.isKilled(false) }},
		{"TERM KILL", true, func(l *liveStage) error { return l.isKilled(true) }},
		{"HUP", false, func(l *liveStage) error { return l.survives(syscall.SIGHUP) }},
		{"USR1", false, func(l *liveStage) error { return l.survives(syscall.SIGUSR1) }},
	}
}

// play plays one case on a daemon of its own.
func (s stage) play(f signalFault) error {
	d, err := newPlace(options{args: s.args, noSocket: s.noSocket})
	if err != nil {
		return err
	}
	defer d.remove()
	l := &liveStage{stage: s, d: d, release: make(chan struct{})}
	defer l.resume()
	d.args = append(d.args, "--pid-file", l.pidFile())
	if err = d.start(); err == nil && !s.noSocket {
		err = d.check(nil)
	}
	if err == nil {
		err = s.reach(l)
	}
	if err != nil {
		return fmt.Errorf("on the way to the stage: %w; the program said:\n%s", err, d.log.String())
	}
	if err := f.do(l); err != nil {
		return fmt.Errorf("%w; the program said:\n%s", err, d.log.String())
	}
	return nil
}

// endsInOrder: one signal, after which everybody else goes on. What is between
// messages ends at once, what is in a message has its verdict, nothing is left.
func (l *liveStage) endsInOrder(sig syscall.Signal) error {
	began := time.Now()
	if err := l.signalEnd(sig); err != nil {
		return err
	}
	if l.phase != between {
		if err := l.finish(); err != nil {
			return err
		}
	}
	if err := l.wantHangUps(); err != nil {
		return err
	}
	if err := l.endsClean(); err != nil {
		return err
	}
	return within(began, 0, soon)
}

// endsStalled: one signal, and nobody goes on. At the end of its time the program
// tells those who wait for a verdict to come again, and ends.
func (l *liveStage) endsStalled(sig syscall.Signal) error {
	began := time.Now()
	if err := l.signalEnd(sig); err != nil {
		return err
	}
	if err := l.wantCut(); err != nil {
		return err
	}
	if err := l.endsClean(); err != nil {
		return err
	}
	return within(began, drainTime, endTime)
}

// endsAtOnce: the second signal is like the end of the time.
func (l *liveStage) endsAtOnce(first, second syscall.Signal) error {
	began := time.Now()
	if err := l.signalEnd(first); err != nil {
		return err
	}
	if err := l.d.signal(second); err != nil {
		return err
	}
	if err := l.wantCut(); err != nil {
		return err
	}
	if err := l.endsClean(); err != nil {
		return err
	}
	return within(began, 0, soon)
}

// isKilled: what the dead program left is gone when the next one serves, which takes
// over socket and pid file, and scans the next message.
func (l *liveStage) isKilled(ending bool) error {
	if ending {
		if err := l.signalEnd(syscall.SIGTERM); err != nil {
			return err
		}
	}
	if err := l.d.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if err := l.wantHangUps(); err != nil {
		return err
	}
	if err := l.d.exits(-1); err != nil {
		return err
	}
	left, err := l.d.leftInSpool()
	if err != nil || (len(left) > 0) != (l.phase != between) {
		return fmt.Errorf("the killed program left %q in the spool, error %v", left, err)
	}
	if _, err := os.Lstat(l.d.socket); (err == nil) == ending {
		return fmt.Errorf("the socket after KILL: %v", err)
	}
	return l.startsAgain()
}

// survives: the signal is told to the log, and is nothing to mail.
func (l *liveStage) survives(sig syscall.Signal) error {
	if err := l.d.signal(sig); err != nil {
		return err
	}
	want := "signal=" + map[syscall.Signal]string{syscall.SIGHUP: "HUP", syscall.SIGUSR1: `"user defined signal 1"`}[sig]
	if err := l.awaitLog(want); err != nil {
		return err
	}
	if err := l.finish(); err != nil {
		return err
	}
	if l.holder != nil {
		l.holder.Conn.Close()
	}
	if err := l.d.check(l.m); err != nil {
		return err
	}
	return l.d.stop()
}

// signalEnd sends a signal that ends the program, and waits until it has begun to:
// nobody can connect any more, and a successor could.
func (l *liveStage) signalEnd(sig syscall.Signal) error {
	if err := l.d.signal(sig); err != nil {
		return err
	}
	return await("the socket to go", func() error {
		if _, err := os.Lstat(l.d.socket); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the socket is there, error %v", err)
		}
		return nil
	})
}

// wantCut wants the answers of a program that has no more time: those who wait for a
// verdict shall come again, the others are hung up on.
func (l *liveStage) wantCut() error {
	if l.phase == waiting {
		for _, m := range l.mtas() {
			if err := wantVerdict(m, shutdownVerdict); err != nil {
				return err
			}
		}
	}
	return l.wantHangUps()
}

func (l *liveStage) wantHangUps() error {
	for _, m := range l.mtas() {
		if err := wantClosed(m); err != nil {
			return err
		}
	}
	return nil
}

// endsClean waits for the end that was asked for and looks what is left.
func (l *liveStage) endsClean() error {
	if err := l.d.exits(0); err != nil {
		return err
	}
	return l.isClean()
}

func (l *liveStage) isClean() error {
	for _, path := range []string{l.d.socket, l.pidFile()} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s is left, error %v", path, err)
		}
	}
	if left, err := l.d.leftInSpool(); err != nil || len(left) > 0 {
		return fmt.Errorf("left in the spool: %q, error %v", left, err)
	}
	return checkLog(l.d.log.String())
}

// startsAgain starts the program where another one has died.
func (l *liveStage) startsAgain() error {
	l.resume()
	if err := l.d.start(); err != nil {
		return fmt.Errorf("the next start: %w", err)
	}
	if left, err := l.d.leftInSpool(); err != nil || len(left) > 0 {
		return fmt.Errorf("left in the spool after the next start: %q, error %v", left, err)
	}
	pid, err := os.ReadFile(l.pidFile())
	if err != nil || strings.TrimSpace(string(pid)) != strconv.Itoa(l.d.pid()) {
		return fmt.Errorf("the pid file names %q, want %d, error %v", pid, l.d.pid(), err)
	}
	if err := l.scannerIsBack(); err != nil {
		return err
	}
	if err := l.d.check(nil); err != nil {
		return err
	}
	return l.d.stop()
}

func (l *liveStage) pidFile() string { return filepath.Join(l.d.dir, "pid") }

func (l *liveStage) awaitLog(text string) error {
	return await("the log to say "+text, func() error {
		if !strings.Contains(l.d.log.String(), text) {
			return errors.New("it does not")
		}
		return nil
	})
}

// within looks whether the time since began lies between two bounds.
func within(began time.Time, least, most time.Duration) error {
	if took := time.Since(began); took < least || took > most {
		return fmt.Errorf("it took %v, want %v to %v", took, least, most)
	}
	return nil
}
