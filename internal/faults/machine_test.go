package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

const (
	// machineWorkers is how many cases run at once.
	machineWorkers = 8

	// leftPause is the time between two messages that are to have the program try again
	// to remove what it could not.
	leftPause = 200 * time.Millisecond
)

// machineGroups are what may become of the program's machine at each stage of a message.
func machineGroups() []group {
	groups := []group{
		{name: "work directory", workers: machineWorkers, cases: workDirCases()},
		{name: "limits of the process", workers: machineWorkers, cases: limitCases()},
		{name: "left by amavisd", workers: machineWorkers, cases: leftoverCases()},
	}
	if canMount() == nil { // TestDisksCanBeMounted tells
		groups = append(groups, group{name: "disk", workers: machineWorkers, cases: diskCases()})
	}
	return groups
}

// machine is a daemon whose work directory holds nothing but the spool: what happens
// to that directory does not happen to the sockets.
type machine struct {
	liveStage
	work string
	disk *disk // on which the work directory lies; nil if on no disk of its own
}

// newMachine brings a program to a stage. With mount options the work directory is a
// disk of its own, which only the program sees.
func newMachine(s stage, mountOptions string) (*machine, error) {
	d, err := newPlace(options{args: s.args, noSocket: s.noSocket})
	if err != nil {
		return nil, err
	}
	l := &machine{liveStage: liveStage{stage: s, d: d, release: make(chan struct{})}, work: filepath.Join(d.dir, "work")}
	d.args = append(d.args, "-w", l.work)
	d.spool = filepath.Join(l.work, "milter")
	if err = makeOurs(l.work); err == nil && mountOptions != "" {
		if l.disk, err = mountDisk(l.work, mountOptions); err == nil {
			d.spool = filepath.Join(l.disk.view, d.spool)
		}
	}
	if err == nil {
		err = l.disk.do(d.start)
	}
	if err == nil {
		err = s.reach(&l.liveStage)
	}
	if err != nil {
		err = fmt.Errorf("on the way to the stage: %w; the program said:\n%s", err, d.log.String())
		l.remove()
		return nil, err
	}
	return l, nil
}

func (l *machine) remove() {
	l.resume()
	l.d.remove()
	l.disk.end()
}

// machineCase is a case of a machine that is brought to a stage, and struck there.
func machineCase(s stage, fault string, play func(l *machine) error) faultCase {
	return diskCase(s, fault, "", play)
}

// diskCase is the same with a disk of its own.
func diskCase(s stage, fault, mountOptions string, play func(l *machine) error) faultCase {
	return faultCase{point: s.name, fault: fault, run: func(*daemon) (*miltertest.MTA, error) {
		l, err := newMachine(s, mountOptions)
		if err != nil {
			return nil, err
		}
		defer l.remove()
		if err := play(l); err != nil {
			return nil, fmt.Errorf("%w; the program said:\n%s", err, l.d.log.String())
		}
		return nil, nil
	}}
}

// finishes has everybody go on, and wants one of these verdicts.
func (l *machine) finishes(want ...string) error {
	l.resume()
	if err := l.sendRest(); err != nil {
		return fmt.Errorf("the rest of the message: %w", err)
	}
	a, err := l.m.Answer()
	if err == nil && !slices.Contains(want, a.String()) {
		err = fmt.Errorf("the verdict is\n%s\nwant\n%s", a, strings.Join(want, "\nor\n"))
	}
	return err
}

// recovers is what comes when the fault is over: the next messages pass, on this
// connection and on a new one, and no mail is left anywhere. That the directory is
// another one the program finds out within a second; what could not be removed may
// take some messages more.
func (l *machine) recovers() error {
	l.d.scanner.Handle(l.reads(false))
	if l.disk != nil {
		l.d.scanner.Handle(good) // it cannot see what the program does
	}
	began, last, passed := time.Now(), time.Time{}, false
	err := await("messages to pass and mail files to go", func() error {
		if time.Since(last) >= leftPause {
			last = time.Now()
			if err := play(l.m, message(answered, l.d.queueID())); err != nil {
				return fmt.Errorf("the next message: %w", err)
			}
			a, err := l.m.Answer()
			if err != nil || a.String() != goodVerdict && (a.String() != unavailableVerdict || time.Since(began) > soon) {
				return fmt.Errorf("the next message: %v, error %w", a, err)
			}
			passed = a.String() == goodVerdict
		}
		if !passed {
			return errors.New("the next message is to be sent again")
		}
		left, err := l.d.leftInSpool()
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("left in the spool: %q", left)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = filepath.WalkDir(filepath.Dir(filepath.Dir(l.d.spool)), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == "email.txt" {
			err = fmt.Errorf("%s is left", path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if l.disk != nil {
		l.m.Conn.Close()
		return l.d.stop()
	}
	if err := l.d.check(l.m); err != nil {
		return err
	}
	return l.d.stop()
}

// reads is a scanner like amavisd: it asks to have a message that it cannot find sent
// again. It reads the mail before or after it is let go on.
func (l *liveStage) reads(first bool) ampdptest.Handler {
	return func(c *ampdptest.Conn) {
		request, err := c.ReadRequest()
		if err != nil {
			return
		}
		if first {
			_, err = os.ReadFile(request.Get("mail_file"))
		}
		select {
		case <-l.release:
		case <-c.Done():
			return
		}
		if !first {
			_, err = os.ReadFile(request.Get("mail_file"))
		}
		c.Unread(request)
		if err != nil {
			ampdptest.Verdict("tempfail", "451", "4.5.0", "Error in processing: "+err.Error())(c)
			return
		}
		good(c)
	}
}
