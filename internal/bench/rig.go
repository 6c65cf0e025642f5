package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Rig is all that a measurement needs: directories, loop, scanner, the two programs.
type Rig struct {
	Programs [2]Program // ours and theirs
	Quick    bool       // fewer and shorter rounds
	Log      io.Writer  // is told what goes on
	Module   string     // the tree, for the step that runs real MTAs

	ctx          context.Context
	loop         *Loop
	scanner      *Scanner
	memory, disk string
	own          bool // memory is a file system that we mounted
	pace         pace
	atWork       []*Process
}

// pace is how often and for how long things are measured.
type pace struct {
	rounds       int           // of rows with a goal
	slice        time.Duration // of one program in a round
	otherRounds  int           // of rows without
	otherSlice   time.Duration
	warm         time.Duration // before the first round
	settle       time.Duration // before memory is read
	memoryRounds int           // fresh processes
	traced       int           // messages whose system calls are counted
	check        time.Duration // of each part of SelfCheck
}

var (
	fullPace  = pace{7, 2 * time.Second, 5, time.Second, time.Second, 5 * time.Second, 3, 200, 2 * time.Second}
	quickPace = pace{3, 400 * time.Millisecond, 2, 300 * time.Millisecond, 200 * time.Millisecond, 5 * time.Second, 1, 200, 500 * time.Millisecond}
)

// settled is how long a load runs before a slice is measured.
const settled = 50 * time.Millisecond

// descriptors is how many must be allowed: without three for each connection of the largest
// row, and some for itself, our program lets fewer in.
const descriptors = 3*manyConnections + 500

// NewRig makes directories below build, on the disk, and in memory, and starts the
// scanner. Close removes all of it.
func NewRig(ctx context.Context, build string, programs [2]Program, quick bool, log io.Writer) (*Rig, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Max < descriptors {
		return nil, fmt.Errorf("%d open files are needed, %d are allowed (ulimit -Hn, error %v)", descriptors, limit.Max, err)
	}
	r := &Rig{Programs: programs, Quick: quick, Log: log, ctx: ctx, pace: fullPace}
	if quick {
		r.pace = quickPace
	}
	if err := r.prepare(build); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Rig) prepare(build string) error {
	if err := sweep(memoryHome, build); err != nil {
		return err
	}
	r.disk = filepath.Join(build, fmt.Sprintf("disk-%d", os.Getpid()))
	if err := os.MkdirAll(r.disk, 0o755); err != nil {
		return err
	}
	if kind := fileSystem(r.disk); kind == "tmpfs" {
		return fmt.Errorf("%s lies in memory, and a disk is to be measured", r.disk)
	}
	r.memory = filepath.Join(memoryHome, fmt.Sprintf("milter-bench-%d", os.Getpid()))
	if err := os.Mkdir(r.memory, 0o755); err != nil || fileSystem(r.memory) != "tmpfs" {
		os.Remove(r.memory)
		r.memory = filepath.Join(build, fmt.Sprintf("memory-%d", os.Getpid()))
		if err := os.MkdirAll(r.memory, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", r.memory, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mounting a memory file system: %w", err)
		}
		r.own = true
	}
	// A umask may have taken what the programs need.
	if err := errors.Join(os.Chmod(r.memory, 0o755), os.Chmod(r.disk, 0o755)); err != nil {
		return err
	}
	var err error
	if r.loop, err = NewLoop(); err != nil {
		return err
	}
	r.scanner, err = NewScanner(r.loop, Endpoint{"unix", filepath.Join(r.memory, "amavisd.sock")})
	return err
}

// memoryHome is where a memory file system is mounted already, on most machines.
const memoryHome = "/dev/shm"

// sweep removes what runs have left that were killed: their directories end with the
// number of a process that there is not any more.
func sweep(memory, build string) error {
	var errs []error
	for _, pattern := range []string{memory + "/milter-bench-*", build + "/disk-*", build + "/memory-*"} {
		left, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, dir := range left {
			pid, err := strconv.Atoi(dir[strings.LastIndexByte(dir, '-')+1:])
			if err != nil || unix.Kill(pid, 0) != unix.ESRCH {
				continue
			}
			unix.Unmount(dir, unix.MNT_DETACH) // if it is a mount
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// Close ends what runs and removes what was made.
func (r *Rig) Close() {
	for _, p := range r.atWork {
		p.Stop()
	}
	if r.scanner != nil {
		r.scanner.Close()
	}
	if r.loop != nil {
		r.loop.Close()
	}
	if r.own {
		unix.Unmount(r.memory, unix.MNT_DETACH)
	}
	if r.memory != "" {
		os.RemoveAll(r.memory)
	}
	os.RemoveAll(r.disk)
}

// start runs a program; stop ends it.
func (r *Rig) start(p Program, network string, disk bool) (*Process, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	work := r.memory
	if disk {
		work = r.disk
	}
	process, err := p.Start(network, r.memory, work, r.scanner.At)
	if err == nil {
		r.atWork = append(r.atWork, process)
	}
	return process, err
}

func (r *Rig) stop(p *Process) {
	p.Stop()
	for i, q := range r.atWork {
		if p == q {
			r.atWork = append(r.atWork[:i], r.atWork[i+1:]...)
			return
		}
	}
}

// load makes a load whose messages the rig's scanner must be asked for.
func (r *Rig) load(mta MTA, mail Mail, to Endpoint) *Load {
	l := NewLoad(r.loop, mta, mail, to)
	l.scanner = r.scanner
	return l
}

// pause waits, or returns why not to.
func (r *Rig) pause(d time.Duration) error {
	select {
	case <-r.ctx.Done():
		return r.ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// fileSystem names the kind of file system at a path.
func fileSystem(path string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return err.Error()
	}
	switch int64(s.Type) {
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("file system %#x", s.Type)
}
