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
		_ = p.dir.actor.do(func() error { return p.dir.removeOpened(p.lockName(), int(file.Fd())) })
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
	fd, err := p.openLock(unix.O_CREAT | unix.O_EXCL)
	made := err == nil
	if errors.Is(err, unix.EEXIST) {
		fd, err = p.openOldLock()
	}
	if err != nil || fd < 0 {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), p.lockName())
	locked, err := p.takeLock(fd, made)
	if locked {
		return file, nil
	}
	if made && err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		_ = p.dir.removeOpened(p.lockName(), fd)
	}
	file.Close()
	return nil, ignoreEINTR(err)
}

func (p *placed) openLock(flags int) (int, error) {
	return ignoringEINTR(func() (int, error) {
		return unix.Openat(p.dir.fd(), p.lockName(), unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, lockMode)
	})
}

// openOldLock opens a lock file that is there, as its owner if it is the account's. It
// returns -1 if the file is there no more, and an EWOULDBLOCK for one of root's start
// that the account, which ends, may not open: somebody starts, or has died in that.
func (p *placed) openOldLock() (fd int, err error) {
	fd = -1
	stat, err := p.dir.stat(p.lockName())
	if err == nil && !p.isLock(stat) { // to open a device may do something
		err = errNotLock
	}
	if err == nil {
		who := p.dir.account
		if int(stat.Uid) == p.dir.starter {
			who = nil // who we are already
		}
		err = who.do(func() (err error) { fd, err = p.openLock(0); return err })
	}
	switch me := os.Geteuid(); {
	case errors.Is(err, unix.ENOENT):
		return -1, nil
	case errors.Is(err, unix.EACCES) && me != 0 && me != int(stat.Uid):
		return -1, unix.EWOULDBLOCK
	}
	return fd, err
}

// isLock reports whether a file can be a lock of ours: of a start, or of the end of one
// that has become the account by then.
func (p *placed) isLock(stat *unix.Stat_t) bool {
	uid := int(stat.Uid)
	ours := uid == p.dir.starter || p.dir.account != nil && uid == p.dir.account.uid
	return ours && stat.Mode&unix.S_IFMT == unix.S_IFREG
}

// takeLock locks the open file, and reports whether it has it and the file still has the
// name. One that we have made needs no proof: file systems have ideas of their own of
// whose it is.
func (p *placed) takeLock(fd int, made bool) (bool, error) {
	var stat unix.Stat_t
	err := unix.Fstat(fd, &stat)
	if err == nil && !made && !p.isLock(&stat) {
		err = errNotLock
	}
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return false, err
	}
	named, err := p.dir.stat(p.lockName())
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil && idOf(named) == idOf(&stat), err
}

// ignoreEINTR makes an interrupted attempt one that is to be made again.
func ignoreEINTR(err error) error {
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}
