package faults

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// workDirStages are where something happens to the work directory, milter/ in it, or
// the message's directory in that.
func workDirStages() []stage {
	return []stage{
		{name: "before DATA", reach: func(l *liveStage) error { return readLate(l, "RCPT 2") }},
		{name: "in the header", phase: content, reach: func(l *liveStage) error { return readLate(l, "header 2") }},
		{name: "in a large body", phase: content, reach: func(l *liveStage) error { return readLate(l, "") }},
		{name: "amavisd was asked", phase: waiting, reach: func(l *liveStage) error { return l.scanning(l.reads(false)) }},
		{name: "amavisd has read it", phase: waiting, reach: func(l *liveStage) error { return l.scanning(l.reads(true)) }},
		{name: "amavisd drops it once", phase: waiting, reach: func(l *liveStage) error {
			return l.scanning(ampdptest.Script(ampdptest.Hold(l.release, ampdptest.HangUp()), l.reads(false)))
		}},
	}
}

// readLate plays up to a frame, or into a large body, with an amavisd that reads the
// mail when it is asked.
func readLate(l *liveStage, frame string) error {
	var err error
	if frame == "" {
		err = l.largeBody()
	} else {
		err = after(frame)(l)
	}
	l.d.scanner.Handle(l.reads(false))
	return err
}

// A workDirFault is what somebody does to a directory, and undoes later.
type workDirFault struct {
	name     string
	do, undo func(dir, moved string) error
}

func workDirFaults() []workDirFault {
	const closed = os.FileMode(0)
	faults := []workDirFault{
		{"removed", func(dir, _ string) error { return os.RemoveAll(dir) },
			func(dir, _ string) error { return remake(dir) }},
		{"renamed", os.Rename,
			func(dir, moved string) error { return errors.Join(os.RemoveAll(dir), os.Rename(moved, dir)) }},
		{"a link to it", func(dir, moved string) error { return errors.Join(os.Rename(dir, moved), os.Symlink(moved, dir)) },
			func(dir, moved string) error { return errors.Join(os.Remove(dir), os.Rename(moved, dir)) }},
		{"replaced", func(dir, moved string) error { return errors.Join(os.Rename(dir, moved), makeOurs(dir)) },
			func(string, string) error { return nil }}, // the new one is as good
		{"chmod 0", func(dir, _ string) error { return os.Chmod(dir, closed) },
			func(dir, _ string) error { return os.Chmod(dir, 0o750) }},
	}
	if os.Geteuid() == 0 {
		faults = append(faults, workDirFault{"chown", func(dir, _ string) error { return os.Chown(dir, 0, 0) },
			func(dir, _ string) error { return giveToAccount(dir) }})
	}
	return faults
}

// remake makes the work directory again if it is missing; what lies below it the program
// makes.
func remake(dir string) error {
	if _, err := os.Lstat(dir); err == nil || filepath.Base(dir) != "work" {
		return nil
	}
	return makeOurs(dir)
}

// workDirPromises says for each stage, in their order, whether the message passes (p)
// because amavisd found all of it, or is to be sent again (f); for e either will do,
// since the program looks only once a second whether milter/ is where it was. Nothing
// is said of a directory that does not exist yet. The amavisd of this test reads what
// has no permissions, too, if the test runs as root; if not, either will do there.
var workDirPromises = map[string]map[string]string{
	"work directory": {
		"removed": "fff" + "fpf", "renamed": "fff" + "fpf", "a link to it": "ppp" + "ppp",
		"replaced": "eff" + "fpf", "chmod 0": "ppp" + "ppp", "chown": "ppp" + "ppp",
	},
	"milter/": {
		"removed": "pff" + "fpf", "renamed": "eff" + "fpf", "a link to it": "epp" + "ppp",
		"replaced": "eff" + "fpf", "chmod 0": "fpp" + "ppp", "chown": "fpp" + "ppp",
	},
	"the message's": {
		"removed": "-ff" + "fpf", "renamed": "-ff" + "fpf", "a link to it": "-pp" + "ppp",
		"replaced": "-ff" + "fpf", "chmod 0": "-fp" + "ppp", "chown": "-fp" + "ppf",
	},
}

func workDirCases() []faultCase {
	var cases []faultCase
	for i, s := range workDirStages() {
		for _, f := range workDirFaults() {
			for _, what := range []string{"work directory", "milter/", "the message's"} {
				promise := workDirPromises[what][f.name][i]
				switch {
				case promise == '-':
					continue
				case promise == 'p' && f.name == "chmod 0" && os.Geteuid() != 0:
					promise = 'e'
				}
				verdicts := map[byte][]string{'p': {goodVerdict}, 'f': {unavailableVerdict}, 'e': {goodVerdict, unavailableVerdict}}[promise]
				c := machineCase(s, f.name, func(l *machine) error { return l.lives(f, what, verdicts) })
				c.detail = what
				cases = append(cases, c)
			}
		}
	}
	return cases
}

// lives has a fault happen to a directory, wants one of the verdicts on the message,
// and, the fault being undone, all as before.
func (l *machine) lives(f workDirFault, what string, verdicts []string) error {
	dir := l.work
	switch what {
	case "milter/":
		dir = l.d.spool
	case "the message's":
		left, err := l.d.leftInSpool()
		if err != nil || len(left) != 1 {
			return errors.Join(errors.New("the message has no directory"), err)
		}
		dir = filepath.Join(l.d.spool, left[0])
	}
	moved := filepath.Join(l.d.dir, "moved")
	if err := f.do(dir, moved); err != nil {
		return err
	}
	if err := l.finishes(verdicts...); err != nil {
		return err
	}
	if what == "the message's" {
		// It is the program's no more, if there is one at all.
		if err := errors.Join(f.undoMessage(dir, moved)); err != nil {
			return err
		}
	} else if err := f.undo(dir, moved); err != nil {
		return err
	}
	return l.recovers()
}

// undoMessage takes away what somebody has put in the place of a message's directory.
func (f workDirFault) undoMessage(dir, moved string) error {
	for _, path := range []string{dir, moved} {
		switch f.name {
		case "chmod 0", "chown":
			if _, err := os.Lstat(path); err == nil {
				if err := f.undo(path, ""); err != nil {
					return err
				}
			}
			continue
		}
		entries, err := os.ReadDir(path)
		if err == nil && len(entries) > 0 {
			return errors.New("mail is left in " + path)
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}
