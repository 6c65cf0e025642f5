package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	noSpaceVerdict = "reply 452 4.3.1 Insufficient system storage, try again later"

	// A disk that holds a large body and little more, and the options of the program
	// that lets it fill it.
	smallDisk, fewInodes, fillIt = "size=1m", "size=1m,nr_inodes=20", "0"

	// minFree, in bytes, is less than the disk has; maxSpool a little more than a large
	// body has when it comes to its stage.
	minFree, maxSpool = 256 << 10, "400000"

	cannotCreate = 73 // EX_CANTCREAT
)

// diskCases are what may become of the disk. Quotas are not among them: they need a
// file system with quotas in the kernel (CONFIG_TMPFS_QUOTA, CONFIG_QFMT_V2), which not
// every kernel has; the spool's own tests have EDQUOT from write and from close.
func diskCases() []faultCase {
	var cases []faultCase
	at := workDirStages()
	beforeData, header, body, asked := at[0], at[1], at[2], at[3]
	asked.reach = func(l *liveStage) error { return l.scanning(l.halfReply) }

	// amavisd cannot see the disk here.
	add := func(s stage, fault, mount string, strike func(l *machine) (undo func() error, err error), args []string, verdicts ...string) {
		s.args = append(slices.Clone(args), "-v")
		cases = append(cases, diskCase(s, fault, mount, func(l *machine) error {
			if s.name != asked.name {
				l.d.scanner.Handle(good)
			}
			undo, err := strike(l)
			if err != nil {
				return err
			}
			if err := l.finishes(verdicts...); err != nil {
				return err
			}
			if err := undo(); err != nil {
				return err
			}
			return l.recovers()
		}))
	}
	toTheLast := []string{"--min-free", fillIt}
	for _, s := range []stage{beforeData, header, body, asked} {
		full := noSpaceVerdict
		if s.name == asked.name {
			full = goodVerdict
		}
		add(s, "full", smallDisk, (*machine).fill, toTheLast, full)
		inodes := full
		if s.name == body.name {
			inodes = goodVerdict // the file is there
		}
		add(s, "out of inodes", fewInodes, (*machine).fillInodes, toTheLast, inodes)
		kept := []string{full}
		if s.name == header.name || s.name == body.name {
			kept = append(kept, goodVerdict) // what others write is noticed after a moment only
		}
		add(s, "--min-free", smallDisk, (*machine).fillToMinFree, []string{"--min-free", strconv.Itoa(minFree)}, kept...)
		broken := unavailableVerdict
		if s.name == asked.name {
			broken = goodVerdict
		}
		if canBreak() == nil { // TestDisksCanBeBroken tells
			add(s, "read-only", ext4, (*machine).breakDown, toTheLast, broken)
		}
	}
	add(body, "--max-spool", smallDisk, func(l *machine) (func() error, error) {
		return func() error { return nil }, l.sendMore()
	}, append(toTheLast, "--max-spool", maxSpool), noSpaceVerdict)
	return append(cases, faultStartOnFullDisk())
}

// fill fills the disk to its last byte.
func (l *machine) fill() (undo func() error, err error) {
	ballast := filepath.Join(l.disk.view, l.work, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		return nil, err
	}
	return func() error { return os.Remove(ballast) }, nil
}

// fillToMinFree fills the disk so that a little less is free than is to be.
func (l *machine) fillToMinFree() (undo func() error, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Join(l.disk.view, l.work), &st); err != nil {
		return nil, err
	}
	size := int64(st.Bavail)*st.Bsize - minFree + st.Bsize
	ballast := filepath.Join(l.disk.view, l.work, "ballast")
	if err := os.WriteFile(ballast, make([]byte, max(size, 0)), 0o600); err != nil {
		return nil, err
	}
	return func() error { return os.Remove(ballast) }, nil
}

// fillInodes makes files until there can be no more.
func (l *machine) fillInodes() (undo func() error, err error) {
	dir := filepath.Join(l.disk.view, l.work, "files")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	for i := 0; err == nil; i++ {
		err = os.WriteFile(fmt.Sprintf("%s/%d", dir, i), nil, 0o600)
	}
	if !errors.Is(err, unix.ENOSPC) {
		return nil, err
	}
	return func() error { return os.RemoveAll(dir) }, nil
}

// breakDown has the disk take nothing any more. Only a program that has been ended lets
// it be repaired; what was left there the next one sweeps.
func (l *machine) breakDown() (undo func() error, err error) {
	repair := func() error {
		l.m.Conn.Close()
		if err := l.d.signal(unix.SIGTERM); err != nil {
			return err
		}
		if err := l.d.exits(0); err != nil {
			return err
		}
		if err := errors.Join(l.disk.repair(l.work), l.disk.do(l.d.start)); err != nil {
			return err
		}
		if left, err := l.d.leftInSpool(); err != nil || len(left) > 0 {
			return fmt.Errorf("left in the spool after the next start: %q, error %v", left, err)
		}
		return l.connectOnly()
	}
	return repair, l.disk.breakDown(l.work)
}

// connectOnly connects, and has said all that comes before the first message.
func (l *machine) connectOnly() error {
	return l.connect(len(dialogue(answered, "")) - len(message(answered, "")))
}

// sendMore sends more of a body than --max-spool takes.
func (l *machine) sendMore() error {
	for range 3 {
		if err := play(l.m, []frame{named("more", 'B', string(make([]byte, 60000)))}); err != nil {
			return err
		}
	}
	return nil
}

// faultStartOnFullDisk: a program that cannot store a message does not start, says why,
// and starts when it can.
func faultStartOnFullDisk() faultCase {
	nobody := stage{name: "start", args: []string{"--min-free", fillIt}, reach: func(l *liveStage) error { return l.connect(0) }}
	return diskCase(nobody, "full", smallDisk, func(l *machine) error {
		l.m.Conn.Close()
		if err := l.d.signal(unix.SIGTERM); err != nil {
			return err
		}
		if err := l.d.exits(0); err != nil {
			return err
		}
		undo, err := l.fill()
		if err != nil {
			return err
		}
		if err := l.disk.do(l.d.launch); err != nil {
			return err
		}
		if err := l.d.exits(cannotCreate); err != nil {
			return err
		}
		if err := l.awaitLog("does not take a test file"); err != nil {
			return err
		}
		if err := errors.Join(undo(), l.disk.do(l.d.start), l.connectOnly()); err != nil {
			return err
		}
		return l.recovers()
	})
}
