package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockTimeout is how long we wait for another instance that looks at the same
	// directory: it takes that one a few milliseconds.
	lockTimeout = 5 * time.Second

	// removeTimeout is how long an instance that ends waits for it.
	removeTimeout = 500 * time.Millisecond

	// lockPoll is how often we try: flock(2) knows no time limit.
	lockPoll = 10 * time.Millisecond
)

// directory is an open directory in which a name is looked at, removed and made
// anew as one step, for instances that start at the same time take turns by
// flock(2) on it. Who may read the directory could hold that lock for ever: that
// keeps an instance from starting, but not from ending. Being open, it stays the
// same directory after the process has changed its user or working directory.
type directory struct {
	file *os.File
	path string
}

// fileID tells one file from all others on this host while it exists.
type fileID struct{ dev, ino uint64 }

func idOf(stat *unix.Stat_t) fileID { return fileID{uint64(stat.Dev), stat.Ino} }

// placed is a path in its open directory; option is what the operator can change
// to choose another, for messages.
type placed struct {
	dir    *directory
	name   string // the last component
	path   string // absolute
	option string
}

// place opens the directory of path.
func place(path, option string) (*placed, error) {
	if path == "" {
		return nil, failf(ExitUsage, "an empty path was given with %s", option)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, failf(ExitOS, "cannot tell where %s is: %w", path, err)
	}
	p := &placed{path: absolute, name: filepath.Base(absolute), option: option}
	parent := filepath.Dir(absolute)
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Open(parent, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, p.explain("open the directory", parent, err)
	}
	p.dir = &directory{file: os.NewFile(uintptr(fd), parent), path: parent}
	return p, nil
}

func (d *directory) fd() int { return int(d.file.Fd()) }

// lock keeps other instances out of the directory until unlock; it waits for them
// until a time has passed.
func (d *directory) lock(timeout time.Duration) error {
	for deadline := time.Now().Add(timeout); ; time.Sleep(lockPoll) {
		err := unix.Flock(d.fd(), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return failf(ExitOS, "cannot lock directory %s: %w", d.path, err)
		case time.Now().After(deadline):
			return failf(ExitUnavailable, "directory %s has been locked by another process for %v: see who it is with fuser %[1]s", d.path, timeout)
		}
	}
}

func (d *directory) unlock() { _ = unix.Flock(d.fd(), unix.LOCK_UN) } // fails only without a lock

// stat looks at a name without following a link.
func (d *directory) stat(name string) (*unix.Stat_t, error) {
	var stat unix.Stat_t
	err := unix.Fstatat(d.fd(), name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	return &stat, err
}

// removeIf removes a name if it still is the given file. One that is gone, or is
// another file by now, is left and is no error.
func (d *directory) removeIf(name string, id fileID) error {
	// Another instance has done by then what it does; a stranger who will not let
	// go must not keep us from ending.
	if d.lock(removeTimeout) == nil {
		defer d.unlock()
	}
	stat, err := d.stat(name)
	if errors.Is(err, unix.ENOENT) || err == nil && idOf(stat) != id {
		return nil
	}
	if err == nil {
		err = unix.Unlinkat(d.fd(), name, 0)
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", filepath.Join(d.path, name), err)
	}
	return nil
}

// explain makes an error of a system call something an operator can act on: it
// names the directory and the right that is missing there.
func (p *placed) explain(doing, path string, err error) error {
	me := userName(os.Geteuid())
	switch {
	case errors.Is(err, unix.ENOENT):
		return failf(ExitCannotCreate, "directory %s does not exist: create it, owned by user %s, or choose another path with %s", filepath.Dir(p.path), me, p.option)
	case errors.Is(err, unix.ENOTDIR):
		return failf(ExitCannotCreate, "%s is not a directory: choose another path with %s", filepath.Dir(p.path), p.option)
	case errors.Is(err, unix.EROFS):
		return failf(ExitCannotCreate, "%s is on a read-only file system: choose another path with %s", path, p.option)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return failf(ExitNoPermission, "user %s cannot %s: chown or chmod it, or choose another path with %s", me, p.missingRight(doing, path), p.option)
	}
	return failf(ExitCannotCreate, "cannot %s %s: %w", doing, path, err)
}

// missingRight says what the user cannot do with which directory.
func (p *placed) missingRight(doing, path string) string {
	parent := filepath.Dir(p.path)
	for _, dir := range ancestors(parent) {
		if lacks(dir, unix.X_OK) {
			return "enter directory " + describe(dir)
		}
	}
	if lacks(parent, unix.R_OK) {
		return "read directory " + describe(parent)
	}
	if lacks(parent, unix.W_OK) {
		return "write to directory " + describe(parent)
	}
	return doing + " " + describe(path)
}

func lacks(path string, right uint32) bool {
	return errors.Is(unix.Faccessat(unix.AT_FDCWD, path, right, unix.AT_EACCESS), unix.EACCES)
}

// ancestors returns a directory and all above it, the root first.
func ancestors(path string) []string {
	if parent := filepath.Dir(path); parent != path {
		return append(ancestors(parent), path)
	}
	return []string{path}
}

// describe returns a path with its owner, group and mode, as far as they can be
// seen.
func describe(path string) string {
	info, err := os.Lstat(path)
	if err != nil {
		return path
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return path
	}
	return fmt.Sprintf("%s (owner %s:%s, mode %04o)", path, userName(int(stat.Uid)), groupName(int(stat.Gid)), info.Mode()&fs.ModePerm)
}

// ignoringEINTR repeats a call that a signal has interrupted.
func ignoringEINTR[T any](call func() (T, error)) (T, error) {
	for {
		result, err := call()
		if !errors.Is(err, unix.EINTR) {
			return result, err
		}
	}
}
