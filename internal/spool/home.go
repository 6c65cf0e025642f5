package spool

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	homeName = "milter" // the directory in the work directory that is ours
	lockName = ".lock"
	lockMode = 0o600 // whoever can open the lock can lock us out

	// lockFlags open the lock, and do no harm if it is a link, a pipe or a terminal.
	lockFlags = unix.O_RDWR | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC

	// LockWait is how long Open waits for another instance that sweeps. Whoever waits
	// for Open must wait longer than that to learn why it failed.
	LockWait = 45 * time.Second

	// lockWaitSwept is the same after a sweep of our own: another instance that got
	// in between finds little to do.
	lockWaitSwept = 2 * time.Second

	// lockWaitRenew is the same when milter/ has to be made anew while mail waits.
	lockWaitRenew = 2 * time.Second

	// homeAge is the time between two looks whether milter/ is still where it was.
	homeAge = time.Second

	// lockPoll is the time between two attempts. flock cannot wait for a limited
	// time by itself.
	lockPoll = 20 * time.Millisecond
)

// home is the directory milter/ and our lock in it. It stays open until the spool
// and the last entry have let go of it.
type home struct {
	path string
	dir  int // descriptor of milter/
	ino  uint64
	dev  uint64
	lock int // descriptor of milter/.lock; -1 where the file system has no locks
	// alone says that nobody else lives here. The lock is exclusive then, until
	// share is called.
	alone bool
	refs  int // guarded by Spool.mu
}

// openHome opens milter/ in the work directory, making it if need be, and takes
// the lock: exclusively if sweep is wanted and nobody else lives here, shared
// otherwise, for which it waits until the time is over or ctx is done.
func openHome(ctx context.Context, work int, workPath string, uid int, sweep bool, wait time.Duration) (*home, error) {
	h := &home{path: filepath.Join(workPath, homeName), dir: -1, lock: -1}
	if err := h.openDir(work, workPath, uid); err != nil {
		return nil, err
	}
	if err := h.takeLock(ctx, uid, sweep, wait); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *home) openDir(work int, workPath string, uid int) error {
	err := mkdirat(work, homeName, dirMode)
	if err != nil && err != unix.EEXIST {
		if setupKind(err) == KindPermission {
			return &SetupError{KindPermission, workPath, fmt.Sprintf("cannot be written by uid %d", uid),
				"run as the account that amavisd runs as, or chown the work directory to it; " + mustMatch, err}
		}
		return &SetupError{setupKind(err), h.path, "cannot be made", "see to what the system says; " + mustMatch, err}
	}
	fd, err := openOwnDir(work, homeName, uid)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return &SetupError{KindConfig, h.path, "is not a directory, or a link to one", "move it away: this program makes its own directory there", nil}
	}
	if err != nil {
		return &SetupError{setupKind(err), h.path, "cannot be opened", fmt.Sprintf("it must belong to uid %d, as which this process runs", uid), err}
	}
	st, err := fstat(fd)
	if err == nil && int(st.Uid) != uid {
		unix.Close(fd)
		return &SetupError{KindConfig, h.path, fmt.Sprintf("belongs to uid %d, not to this process (uid %d)", st.Uid, uid),
			"run as the account that amavisd runs as, or remove this directory: it is made anew at start", nil}
	}
	if err == nil {
		err = setMode(fd, st, dirMode)
	}
	if err != nil {
		unix.Close(fd)
		return &SetupError{setupKind(err), h.path, fmt.Sprintf("cannot be given the mode %04o", dirMode), "use a file system with Unix permissions", err}
	}
	h.dir, h.ino, h.dev = fd, st.Ino, uint64(st.Dev)
	return nil
}

func (h *home) takeLock(ctx context.Context, uid int, sweep bool, wait time.Duration) error {
	path := h.path + "/" + lockName
	const advice = "remove it if it is not a plain file of this account; no instance may be running then"
	fd, err := openat(h.dir, lockName, lockFlags, lockMode)
	if err == nil {
		h.lock = fd
		var st unix.Stat_t
		if st, err = fstat(fd); err == nil && !isOwnLock(st, uid) {
			return &SetupError{KindConfig, path, fmt.Sprintf("is not a plain file of this account alone (%s, %d names)", owner(st), st.Nlink), advice, nil}
		}
		if err == nil {
			err = setMode(fd, st, lockMode)
		}
	}
	if err != nil {
		return &SetupError{setupKind(err), path, "cannot be opened", advice, err}
	}
	if sweep && flock(h.lock, unix.LOCK_EX) == nil {
		h.alone = true
		return nil
	}
	return h.share(ctx, wait)
}

// isOwnLock refuses what somebody may have put there while milter/ was open to others:
// a file that a stranger can lock for ever, or a second name of a file of ours that has
// nothing to do with the lock, and whose mode is not ours to change.
func isOwnLock(st unix.Stat_t, uid int) bool {
	return isRegular(st) && int(st.Uid) == uid && st.Nlink <= 1
}

// share makes the lock a shared one. Another instance that starts at this moment
// may hold it exclusively to sweep; nothing of ours can lie here then, and it is
// waited for.
func (h *home) share(ctx context.Context, wait time.Duration) error {
	h.alone = false
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for deadline := time.Now().Add(wait); ; {
		err := flock(h.lock, unix.LOCK_SH)
		if err == nil {
			return nil
		}
		if err != unix.EWOULDBLOCK {
			// A file system without locks: live without, and never sweep.
			unix.Close(h.lock)
			h.lock = -1
			return nil
		}
		if time.Now().After(deadline) {
			return &SetupError{KindOS, h.path + "/" + lockName, fmt.Sprintf("has been locked by somebody else for %s", wait),
				"find the process that holds it (fuser) and end it", err}
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the lock %s/%s: %w", h.path, lockName, context.Cause(ctx))
		}
	}
}

func flock(fd, how int) error {
	return retry(func() error { return unix.Flock(fd, how|unix.LOCK_NB) })
}

// close gives up the directory and with its descriptor the lock.
func (h *home) close() {
	if h.dir >= 0 {
		unix.Close(h.dir)
	}
	if h.lock >= 0 {
		unix.Close(h.lock)
	}
	h.dir, h.lock = -1, -1
}
