package spool

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	dirMode  = 0o750 // of milter/ and of each message's directory
	fileMode = 0o640 // of email.txt

	// createFlags make a mail file that was not there, not even as a link.
	createFlags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

// entry is the directory of one message, from its making to its removal. Draft
// and Message are two views of it. The directory's descriptor stays open all the
// time: then removal needs no descriptor that might not be had, and meets the very
// directory that was made, whatever became of its name.
type entry struct {
	spool *Spool
	home  *home
	name  string // in milter/
	path  string // absolute, as amavisd is told it

	mu   sync.Mutex // of all below
	dir  int        // descriptor of the directory; -1 once removed or given up
	file int        // descriptor of the mail file while it is written; else -1
	made bool       // the mail file has been made
	buf  buffer
	size int64 // bytes written to the mail file
	held int64 // bytes of it that Options.MaxBytes counts
	ino  uint64
	dev  uint64
	gone bool // removed, or given up for good
}

// makeEntry makes a directory for a message in milter/. The error is
// unix.ENOENT, unwrapped, when milter/ itself is no longer there.
func (s *Spool) makeEntry(h *home, queueID string) (*entry, error) {
	name, err := makeName(h, queueID)
	if err == unix.ENOENT {
		return nil, err
	}
	e := &entry{spool: s, home: h, name: name, path: h.path + "/" + name, dir: -1, file: -1}
	if err != nil {
		return nil, fmt.Errorf("making spool directory %s: %w", e.path, err)
	}
	if err := e.open(); err != nil {
		// Not by its content: what is there now may not be what we made.
		_ = unlinkat(h.dir, name, unix.AT_REMOVEDIR)
		return nil, fmt.Errorf("making spool directory %s: %w", e.path, err)
	}
	return e, nil
}

// makeName makes a directory under the first name for that queue id which is not
// taken, be it by a file or a link. It returns the last name tried.
func makeName(h *home, queueID string) (name string, err error) {
	for attempt := range maxNameTries {
		name = dirName(queueID, attempt)
		if err = mkdirat(h.dir, name, dirMode); err != unix.EEXIST {
			break
		}
	}
	return name, err
}

// open opens the directory that was just made and gives it its mode.
func (e *entry) open() error {
	fd, err := openOwnDir(e.home.dir, e.name, e.spool.uid)
	if err != nil {
		return err
	}
	st, err := fstat(fd)
	if err == nil && int(st.Uid) != e.spool.uid {
		err = fmt.Errorf("%w: it belongs to uid %d", ErrTampered, st.Uid)
	}
	if err == nil {
		err = setMode(fd, st, dirMode)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	e.dir, e.ino, e.dev = fd, st.Ino, uint64(st.Dev)
	return nil
}

// remove removes the directory with all that lies in it, and gives back whatever
// the entry holds. It may be called again, after success and after failure.
func (e *entry) remove() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.removeLocked()
}

func (e *entry) removeLocked() error {
	if e.gone {
		return nil
	}
	e.closeFile()
	e.buf.release(&e.spool.limits.large)
	err := e.unlink()
	if e.dir >= 0 {
		unix.Close(e.dir)
		e.dir = -1
	}
	if err != nil {
		e.spool.leave(e)
		return fmt.Errorf("removing spool directory %s: %w", e.path, err)
	}
	e.gone = true
	e.giveBack()
	e.spool.forget(e)
	return nil
}

// giveBack says that the mail file is not on the disk any more.
func (e *entry) giveBack() {
	e.spool.limits.bytes.give(e.held)
	e.held = 0
}

// removeFinally is remove for the last time: a directory that cannot be removed now
// is left to the sweep of the next start. What it holds is counted until then.
func (e *entry) removeFinally() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.removeLocked()
	if err != nil {
		e.gone = true
		e.spool.forget(e)
	}
	return err
}

// closeFile closes the mail file without a look at the result: the message is
// given up.
func (e *entry) closeFile() {
	if e.file >= 0 {
		unix.Close(e.file)
		e.file = -1
	}
}

// unlink takes the directory off the disk: directly if nothing but the mail file
// lies in it, by a walk through it otherwise.
func (e *entry) unlink() error {
	if there, err := e.reopen(); !there {
		return err
	}
	err := error(unix.ENOENT)
	if e.made {
		if err = unlinkat(e.dir, mailFile, 0); err == nil || err == unix.ENOENT {
			e.giveBack()
		}
	}
	if err == unix.ENOENT && isGone(e.dir) {
		// Somebody else removed it. Its name may be another message's by now.
		return nil
	}
	if err == nil || err == unix.ENOENT {
		err = unlinkat(e.home.dir, e.name, unix.AT_REMOVEDIR)
	}
	if err == nil {
		return nil
	}
	return e.unlinkAll()
}

// unlinkAll empties the directory, whatever it is called now, and removes its
// name, if that is still its own.
func (e *entry) unlinkAll() error {
	if err := takeAccess(e.dir, e.spool.uid); err != nil {
		return err
	}
	return removeEmptied(e.home.dir, e.name, e.name, func() error {
		if err := emptyDir(e.dir, e.spool.uid, ""); err != nil {
			return err
		}
		return e.isOurName()
	})
}

// isOurName returns an error if something else than the directory bears its name;
// that nothing does is none.
func (e *entry) isOurName() error {
	st, err := lstatat(e.home.dir, e.name)
	if err == nil && (st.Ino != e.ino || uint64(st.Dev) != e.dev) {
		return fmt.Errorf("%w: something else bears its name now (%s)", ErrTampered, owner(st))
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// reopen makes sure that the directory is open, for another attempt to remove it.
// It reports whether the directory is still there.
func (e *entry) reopen() (bool, error) {
	if e.dir >= 0 {
		return true, nil
	}
	fd, err := openOwnDir(e.home.dir, e.name, e.spool.uid)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return false, nil
	default:
		return false, err
	}
	st, err := fstat(fd)
	if err != nil || st.Ino != e.ino || uint64(st.Dev) != e.dev {
		unix.Close(fd)
		return false, err
	}
	e.dir = fd
	return true, nil
}
