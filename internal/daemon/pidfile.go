package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// pidFileMode lets everybody read the pid file.
	pidFileMode = 0o644

	// maxPIDText is the longest number, in bytes, that is told to an operator.
	maxPIDText = 32

	// maxPIDRead bounds what is read of somebody's pid file, in bytes.
	maxPIDRead = 4 << 10

	// pidFileOption is what chooses another pid file, for messages.
	pidFileOption = "--pid-file"
)

// PIDFile is a pid file that names us. While we live we hold a write lock on it (of
// an open file description, fcntl(2)): that, and not the number in it, tells others
// that it is in use, for numbers are used again. Everybody may read the file, and so
// lock it by flock(2) or for reading; to lock it for writing takes the right to write.
type PIDFile struct {
	// Warning is for the operator: what is allowed about the file's directory but seldom
	// meant; empty if there is nothing.
	Warning string

	place *placed
	file  *os.File
	id    fileID
}

// WritePIDFile writes our process id to a file of mode 0644, in one step, so that
// a reader finds either nothing, the old text or the new.
//
// A file that a living instance holds is refused, one of a dead instance is
// replaced; anything but a pid file, a symbolic link included, is refused.
// Errors are of type [Error] with the same codes as those of [Listen].
//
// It may be called as root before [DropPrivileges]: in a directory like /run the file
// belongs to root then, so that an unprivileged user cannot make root's scripts signal a
// process of his choice. account is who the process will be, nil if it stays who it
// is: in a directory where others than root can write root takes no more rights than
// one of them has.
func WritePIDFile(path string, account *Account) (*PIDFile, error) {
	p, err := place(path, pidFileOption, account)
	if err != nil {
		return nil, err
	}
	file, id, err := p.writePID()
	if err != nil {
		p.dir.file.Close()
		return nil, err
	}
	return &PIDFile{Warning: p.warning, place: p, file: file, id: id}, nil
}

func (p *placed) writePID() (file *os.File, id fileID, err error) {
	unlock, err := p.lock(lockTimeout)
	if ExitCode(err) == ExitNoPermission { // what is in the way says more, if there is anything
		if reason := p.dir.actor.do(p.checkOld); reason != nil {
			return nil, fileID{}, reason
		}
	}
	if err != nil {
		return nil, fileID{}, err
	}
	defer unlock()
	err = p.dir.actor.do(func() error {
		if err := p.checkOld(); err != nil {
			return err
		}
		file, id, err = p.replace()
		return err
	})
	return file, id, err
}

// replace puts a new file in the place of the old one.
func (p *placed) replace() (*os.File, fileID, error) {
	// Nobody else makes this name while the lock is held: what is there was left by a
	// crash.
	temporary := "." + p.name + ".new"
	_ = unix.Unlinkat(p.dir.fd(), temporary, 0)
	file, err := p.create(temporary)
	if err != nil {
		return nil, fileID{}, p.explain("write pid file", filepath.Join(p.dir.path, temporary), err)
	}
	var stat unix.Stat_t
	err = unix.Fstat(int(file.Fd()), &stat)
	if err == nil {
		err = unix.Renameat(p.dir.fd(), temporary, p.dir.fd(), p.name)
	}
	if err != nil {
		_ = unix.Unlinkat(p.dir.fd(), temporary, 0)
		file.Close()
		return nil, fileID{}, p.explain("write pid file", p.path, err)
	}
	if named, err := p.dir.stat(p.name); err != nil || idOf(named) != idOf(&stat) {
		file.Close()
		return nil, fileID{}, failf(ExitOS, "%s is not the pid file that we have made: who else writes to %s?", p.path, p.dir.path)
	}
	return file, idOf(&stat), nil
}

// create makes a locked file that holds our process id.
func (p *placed) create(name string) (*os.File, error) {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(p.dir.fd(), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, lockMode)
	})
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), p.path)
	err = writeLock(fd, unix.F_WRLCK) // before others may open it
	if err == nil {
		_, err = fmt.Fprintf(file, "%d\n", os.Getpid())
	}
	if err == nil {
		err = file.Chmod(pidFileMode) // whatever the umask
	}
	if err != nil {
		_ = unix.Unlinkat(p.dir.fd(), name, 0)
		file.Close()
		return nil, err
	}
	return file, nil
}

// writeLock sets (F_WRLCK) or gives up (F_UNLCK) the lock of a whole file.
func writeLock(fd int, how int16) error {
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: how, Whence: io.SeekStart})
}

// isWriteLocked reports whether somebody holds a file's write lock.
func isWriteLocked(fd int) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart} // what a reader's lock does not keep from
	err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock)
	return lock.Type == unix.F_WRLCK, err
}

// checkOld looks whether what has the name may be replaced: nothing, or the pid file
// of a dead instance.
func (p *placed) checkOld() error {
	stat, err := p.dir.stat(p.name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return p.explain("look at", p.path, err)
	}
	if err := p.checkRegular(stat); err != nil { // to open a device may do something
		return err
	}
	return p.checkOpened()
}

// checkOpened looks at what has the name once it is open and can be swapped no more.
func (p *placed) checkOpened() error {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(p.dir.fd(), p.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return p.explain("read pid file", p.path, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return failf(ExitOS, "cannot look at pid file %s: %w", p.path, err)
	}
	if err := p.checkRegular(&stat); err != nil {
		return err
	}
	number, ok := readPID(fd)
	if !ok {
		return failf(ExitCannotCreate, "%s holds other text than a number, it is no pid file: remove it, or choose another path with %s", p.path, p.option)
	}
	locked, err := isWriteLocked(fd)
	switch {
	case err != nil:
		return failf(ExitOS, "cannot tell whether pid file %s is locked: %w", p.path, err)
	case locked:
		return failf(ExitUnavailable, "pid file %s belongs to a running instance%s: stop it, or choose another path with %s", p.path, number, p.option)
	}
	return nil
}

func (p *placed) checkRegular(stat *unix.Stat_t) error {
	if stat.Mode&unix.S_IFMT == unix.S_IFREG {
		return nil
	}
	return failf(ExitCannotCreate, "%s is %s, not a pid file: remove it, or choose another path with %s", p.path, kindOf(stat), p.option)
}

// readPID returns the number in a pid file in parentheses, or nothing if there is no
// plausible one. A file with anything else but digits and white space, or the NULs
// that a power failure leaves, is somebody's data, and ok is false: the path is a
// mistake then, and that file must not be replaced.
func readPID(fd int) (number string, ok bool) {
	text := make([]byte, maxPIDRead)
	n, err := ignoringEINTR(func() (int, error) { return unix.Pread(fd, text, 0) })
	number = strings.Trim(string(text[:max(n, 0)]), " \t\r\n\x00")
	if err != nil || strings.Trim(number, "0123456789 \n") != "" {
		return "", false
	}
	if number == "" || len(number) > maxPIDText || strings.ContainsAny(number, " \n") {
		return "", true
	}
	return " (" + number + ")", true
}

// Yield lets a successor take over the pid file from now on: it is for a process
// that does nothing but finish what is under way. The file stays until the
// successor or Remove removes it. A nil PIDFile does nothing.
func (f *PIDFile) Yield() {
	if f != nil {
		_ = writeLock(int(f.file.Fd()), unix.F_UNLCK) // fails only without a lock
	}
}

// Remove removes the pid file if it still is ours. Where the directory does not
// let us, as is usual for /run after [DropPrivileges], the file is emptied
// instead: it names nobody then, and the next start takes it. A nil PIDFile does
// nothing.
func (f *PIDFile) Remove() error {
	if f == nil {
		return nil
	}
	err := f.place.removeIf(f.id)
	if err != nil {
		err = f.file.Truncate(0)
	}
	return errors.Join(err, f.file.Close(), f.place.dir.file.Close())
}
