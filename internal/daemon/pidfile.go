package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// pidFileMode lets everybody read the pid file.
	pidFileMode = 0o644

	// maxPIDText bounds what is read of somebody's pid file, in bytes.
	maxPIDText = 32

	// pidFileOption is what chooses another pid file, for messages.
	pidFileOption = "--pid-file"
)

// PIDFile is a pid file that names us. While we live we hold a flock(2) on it:
// that, and not the number in it, tells others that it is in use, for numbers are
// used again.
type PIDFile struct {
	place *placed
	file  *os.File
	id    fileID
}

// WritePIDFile writes our process id to a file of mode 0644, in one step, so that
// a reader finds either nothing, the old text or the new.
//
// A file that a living instance holds is refused, one of a dead instance is
// replaced; anything but a regular file, a symbolic link included, is refused.
// Errors are of type [Error] with the same codes as those of [Listen].
//
// It may be called as root before [DropPrivileges]: the file belongs to root then,
// so that an unprivileged user cannot make root's scripts signal a process of his
// choice.
func WritePIDFile(path string) (*PIDFile, error) {
	p, err := place(path, pidFileOption)
	if err != nil {
		return nil, err
	}
	file, id, err := p.writePID()
	if err != nil {
		p.dir.file.Close()
		return nil, err
	}
	return &PIDFile{place: p, file: file, id: id}, nil
}

func (p *placed) writePID() (*os.File, fileID, error) {
	if err := p.dir.lock(lockTimeout); err != nil {
		return nil, fileID{}, err
	}
	defer p.dir.unlock()
	old, err := p.claimOld()
	if err != nil {
		return nil, fileID{}, err
	}
	if old != nil {
		defer old.Close() // its lock is held until ours is in its place
	}
	// Nobody else makes this name while the directory is locked: what is there was
	// left by a crash.
	temporary := "." + p.name + ".new"
	_ = unix.Unlinkat(p.dir.fd(), temporary, 0)
	file, err := p.create(temporary)
	if err != nil {
		return nil, fileID{}, p.explain("write pid file", p.path, err)
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
	return file, idOf(&stat), nil
}

// create makes a locked file that holds our process id.
func (p *placed) create(name string) (*os.File, error) {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(p.dir.fd(), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, pidFileMode)
	})
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), p.path)
	_, err = fmt.Fprintf(file, "%d\n", os.Getpid())
	if err == nil {
		err = file.Chmod(pidFileMode) // whatever the umask
	}
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		_ = unix.Unlinkat(p.dir.fd(), name, 0)
		file.Close()
		return nil, err
	}
	return file, nil
}

// claimOld locks the pid file of a dead instance; it returns nil if there is none.
func (p *placed) claimOld() (*os.File, error) {
	stat, err := p.dir.stat(p.name)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, p.explain("look at", p.path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, failf(ExitCannotCreate, "%s is %s, not a pid file: remove it, or choose another path with %s", p.path, kindOf(stat), p.option)
	}
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(p.dir.fd(), p.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, p.explain("read pid file", p.path, err)
	}
	file := os.NewFile(uintptr(fd), p.path)
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return file, nil
	}
	defer file.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, failf(ExitUnavailable, "pid file %s belongs to a running instance%s: stop it, or choose another path with %s", p.path, readPID(file), p.option)
	}
	return nil, failf(ExitOS, "cannot lock pid file %s: %w", p.path, err)
}

// readPID returns the number in a pid file in parentheses, or nothing if there is
// no plausible one.
func readPID(file *os.File) string {
	text, err := io.ReadAll(io.LimitReader(file, maxPIDText))
	number := strings.TrimSpace(string(text))
	if err != nil || number == "" || strings.Trim(number, "0123456789") != "" {
		return ""
	}
	return " (" + number + ")"
}

// Yield lets a successor take over the pid file from now on: it is for a process
// that does nothing but finish what is under way. The file stays until the
// successor or Remove removes it. A nil PIDFile does nothing.
func (f *PIDFile) Yield() {
	if f != nil {
		_ = unix.Flock(int(f.file.Fd()), unix.LOCK_UN) // fails only without a lock
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
	err := f.place.dir.removeIf(f.place.name, f.id)
	if err != nil {
		err = f.file.Truncate(0)
	}
	return errors.Join(err, f.file.Close(), f.place.dir.file.Close())
}
