package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockTimeout is how long we wait for another instance that looks at the same
	// name: it takes that one a few milliseconds.
	lockTimeout = 5 * time.Second

	// removeTimeout is how long an instance that ends waits for it.
	removeTimeout = 500 * time.Millisecond

	// lockPoll is how often we try: flock(2) knows no time limit.
	lockPoll = 10 * time.Millisecond

	// lockMode keeps others from taking the lock: whoever may open a file, to read it
	// even, may lock it.
	lockMode = 0o600
)

// lockName is the file whose lock stands for a name. It is there only while the lock
// is held, or after a crash; nothing is ever written to it. The directory itself
// would not do: all who may read it could lock us out.
func (p *placed) lockName() string { return "." + p.name + ".lock" }

// lock keeps other instances away from the name until unlock is called; it waits for
// them until a time has passed.
func (p *placed) lock(timeout time.Duration) (unlock func(), err error) {
	var file *os.File
	err = p.dir.actor.do(func() (err error) { file, err = p.waitLock(timeout); return err })
	if err != nil {
		return nil, err
	}
	return func() {
		_ = p.dir.actor.do(func() error { return unix.Unlinkat(p.dir.fd(), p.lockName(), 0) })
		file.Close() // after that, or the next one's file would be removed
	}, nil
}

func (p *placed) waitLock(timeout time.Duration) (*os.File, error) {
	path := filepath.Join(p.dir.path, p.lockName())
	for deadline := time.Now().Add(timeout); ; {
		file, err := p.tryLock()
		switch {
		case file != nil:
			return file, nil
		case err != nil && !errors.Is(err, unix.EWOULDBLOCK):
			return nil, p.explainLock(path, err)
		case time.Now().After(deadline):
			return nil, failf(ExitUnavailable, "%s has been locked by another process for %v: see who it is with fuser %[1]s", path, timeout)
		case err != nil:
			time.Sleep(lockPoll)
		}
	}
}

// errNotLock says that somebody has put something in the place of the lock.
var errNotLock = errors.New("not a lock file of ours: remove it")

func (p *placed) explainLock(path string, err error) error {
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENXIO), errors.Is(err, errNotLock):
		return failf(ExitCannotCreate, "%s is not a lock file of ours: remove it, or choose another path with %s", path, p.option)
	}
	return p.explain("make lock file", path, err)
}

// tryLock returns the open and locked file, an EWOULDBLOCK if another has it, or
// neither if it was removed before we had it.
func (p *placed) tryLock() (*os.File, error) {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(p.dir.fd(), p.lockName(), unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, lockMode)
	})
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), p.lockName())
	var stat unix.Stat_t
	if err = unix.Fstat(fd, &stat); err == nil && (stat.Mode&unix.S_IFMT != unix.S_IFREG || int(stat.Uid) != p.dir.actor.user()) {
		err = errNotLock
	}
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		var named *unix.Stat_t
		if named, err = p.dir.stat(p.lockName()); err == nil && idOf(named) == idOf(&stat) {
			return file, nil
		}
		if errors.Is(err, unix.ENOENT) {
			err = nil
		}
	}
	file.Close()
	return nil, ignoreEINTR(err)
}

// ignoreEINTR makes an interrupted attempt one that is to be made again.
func ignoreEINTR(err error) error {
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}
