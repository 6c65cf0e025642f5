package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// noFiles is a limit on open files below those that any process has.
	noFiles = "3"

	// fileLimit is a limit on the size of a file in bytes, less than the mail file of a
	// large body has.
	fileLimit = "100000"

	oneByte = "1"
)

// limitCases take from the running program what it is allowed, and give it back: file
// descriptors, and the size of a file. Mail waits or is to be sent again; as soon as the
// limit is lifted all is as before, and no scanner is held to be dead for it.
func limitCases() []faultCase {
	var cases []faultCase
	add := func(s stage, fault string, play func(l *machine) error) {
		s.args = append(s.args, "-v") // failed attempts are told
		cases = append(cases, machineCase(s, fault, play))
	}
	at := workDirStages()
	beforeData, header, body, asked := at[0], at[1], at[2], at[3]
	slot := stage{name: "waiting for a slot", args: []string{"-m", "1"}, reach: func(l *liveStage) error { return l.waitForSlot() }}

	const files = "no descriptors"
	add(stage{name: "nobody connected", reach: func(*liveStage) error { return nil }}, files, (*machine).cannotAccept)
	for _, s := range []stage{beforeData, header} {
		add(s, files, func(l *machine) error { return l.limited(openFiles, noFiles, unavailableVerdict) })
	}
	add(asked, files, func(l *machine) error { return l.limited(openFiles, noFiles, goodVerdict) })
	for _, s := range []stage{body, slot} {
		add(s, files, (*machine).waitsForDescriptors)
	}
	impatient := body
	impatient.args = []string{"--retry-time", "1"}
	add(impatient, "none for long", func(l *machine) error { return l.limited(openFiles, noFiles, unavailableVerdict) })
	tree := leftover{"a tree", true, func(dir, _ string) error { return os.MkdirAll(filepath.Join(dir, "parts", "a", "b"), 0o750) }}
	left := stage{name: "amavisd leaves a tree", phase: waiting, reach: func(l *liveStage) error { return l.scanningLeft(tree, goodIfWhole) }}
	add(left, files, func(l *machine) error { return l.limited(openFiles, noFiles, goodVerdict) })

	const size = "file too large"
	for _, s := range []stage{beforeData, header} {
		add(s, size, func(l *machine) error { return l.limited(fileSize, oneByte, unavailableVerdict) })
		add(s, size+", not yet", func(l *machine) error { return l.limited(fileSize, fileLimit, goodVerdict) })
	}
	add(body, size, func(l *machine) error { return l.limited(fileSize, fileLimit, unavailableVerdict) })
	add(asked, size, func(l *machine) error { return l.limited(fileSize, oneByte, goodVerdict) })
	return cases
}

// A limit of a process, as prlimit(1) and /proc call it.
type limit struct{ option, title string }

var (
	openFiles = limit{"nofile", "Max open files"}
	fileSize  = limit{"fsize", "Max file size"}
)

// limit sets a limit of the program, until it is lifted.
func (l *machine) limit(what limit, n string) (lift func() error, err error) {
	old, err := l.softLimit(what)
	if err != nil {
		return nil, err
	}
	return func() error { return l.setLimit(what, old) }, l.setLimit(what, n)
}

// setLimit sets the soft limit as the account of the program: root without
// CAP_SYS_RESOURCE may not.
func (l *machine) setLimit(what limit, n string) error {
	cmd := exec.Command("prlimit", "--pid", strconv.Itoa(l.d.pid()), "--"+what.option+"="+n+":")
	if os.Geteuid() == 0 {
		var owner unix.Stat_t
		if err := unix.Stat(l.d.spool, &owner); err != nil {
			return err
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("prlimit (Debian package util-linux): %w: %s", err, out)
	}
	return nil
}

func (l *machine) softLimit(what limit) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", l.d.pid()))
	for line := range strings.Lines(string(text)) {
		if values, ok := strings.CutPrefix(line, what.title); ok {
			return strings.Fields(values)[0], nil
		}
	}
	return "", fmt.Errorf("no %s in the limits of the program, error %v", what.title, err)
}

// limited has the message end under the limit, and wants this verdict.
func (l *machine) limited(what limit, n, verdict string) error {
	lift, err := l.limit(what, n)
	if err != nil {
		return err
	}
	if err := l.finishes(verdict); err != nil {
		return err
	}
	if err := lift(); err != nil {
		return err
	}
	if log := l.d.log.String(); strings.Contains(log, "is down") || strings.Contains(log, "refuses") {
		return errors.New("the scanner is blamed for a limit of ours")
	}
	return l.recovers()
}

// cannotAccept has somebody connect who cannot be let in, and is when the limit is
// lifted.
func (l *machine) cannotAccept() error {
	lift, err := l.limit(openFiles, noFiles)
	if err != nil {
		return err
	}
	if err := l.connect(0); err != nil {
		return err
	}
	if err := l.awaitLog("cannot accept a connection"); err != nil {
		return err
	}
	if err := lift(); err != nil {
		return err
	}
	if err := l.finishes(goodVerdict); err != nil {
		return err
	}
	return l.recovers()
}

// waitsForDescriptors: a message that cannot be brought to the scanner for want of them
// waits, and passes when the limit is lifted.
func (l *machine) waitsForDescriptors() error {
	lift, err := l.limit(openFiles, noFiles)
	if err != nil {
		return err
	}
	l.resume()
	if err := l.sendRest(); err != nil {
		return err
	}
	if l.holder != nil {
		if err := wantVerdict(l.holder, goodVerdict); err != nil {
			return err
		}
	}
	if err := l.awaitLog("too many open files"); err != nil {
		return err
	}
	if err := lift(); err != nil {
		return err
	}
	if err := wantVerdict(l.m, goodVerdict); err != nil {
		return err
	}
	if l.holder != nil {
		l.holder.Conn.Close()
	}
	return l.recovers()
}
