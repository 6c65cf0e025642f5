package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// directory is an open directory in which a name is looked at, removed and made
// anew as one step, for instances that start at the same time take turns by
// [placed.lock]. Being open, it stays the same directory after the process has changed
// its user or working directory.
type directory struct {
	file    *os.File
	path    string
	actor   *identity // with whose rights root works here
	starter int       // whose files are made here at the start
	account *identity // who the process will be, nil if it stays who it is
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

	// warning is what is allowed about the directory but seldom meant, in one line.
	warning string
}

// place opens the directory of path. account is who the process will be, or nil if it
// stays who it is.
//
// A directory in which everybody may put something in our place is refused.
func place(path, option string, account *Account) (*placed, error) {
	if path == "" {
		return nil, failf(ExitUsage, "an empty path was given with %s", option)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, failf(ExitOS, "cannot tell where %s is: %w", path, err)
	}
	p := &placed{path: absolute, name: filepath.Base(absolute), option: option}
	p.dir = &directory{path: filepath.Dir(absolute)}
	if err := p.open(account); err != nil {
		return nil, err
	}
	return p, nil
}

// open opens the directory and chooses with whose rights root works in it.
func (p *placed) open(account *Account) error {
	var fd int
	var fixed bool
	var err error
	if account == nil || os.Geteuid() != 0 {
		fd, err = openDirectory(unix.AT_FDCWD, p.dir.path)
	} else {
		fd, fixed, err = openWay(p.dir.path)
	}
	var stat unix.Stat_t
	if err == nil {
		if err = unix.Fstat(fd, &stat); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return p.explain("open the directory", p.dir.path, err)
	}
	p.dir.file = os.NewFile(uintptr(fd), p.dir.path)
	p.dir.actor = identityFor(&stat, fixed, account)
	p.dir.starter = p.dir.actor.user()
	if account != nil {
		p.dir.account = &identity{account.UID, account.GID, account.Groups}
	}
	switch stat.Mode & (unix.S_IWOTH | unix.S_ISVTX) {
	case unix.S_IWOTH | unix.S_ISVTX:
		p.warning = fmt.Sprintf("directory %s is writable by everybody (mode %04o), who can take the place of %s whenever no instance runs: choose another path with %s",
			p.dir.path, stat.Mode&permissionBits, p.name, p.option)
	case unix.S_IWOTH:
		p.dir.file.Close()
		return failf(ExitConfiguration, "directory %s is writable by everybody (mode %04o), who could take the place of %s: chmod o-w it, or choose another path with %s",
			p.dir.path, stat.Mode&permissionBits, p.name, p.option)
	}
	return nil
}

// permissionBits are those that chmod(2) knows.
const permissionBits = 0o7777

func (d *directory) fd() int { return int(d.file.Fd()) }

// stat looks at a name without following a link.
func (d *directory) stat(name string) (*unix.Stat_t, error) {
	var stat unix.Stat_t
	err := unix.Fstatat(d.fd(), name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	return &stat, err
}

// removeOpened removes a name if it still is the open file.
func (d *directory) removeOpened(name string, fd int) error {
	var stat unix.Stat_t
	err := unix.Fstat(fd, &stat)
	if err != nil {
		return err
	}
	named, err := d.stat(name)
	if err == nil && idOf(named) == idOf(&stat) {
		err = unix.Unlinkat(d.fd(), name, 0)
	}
	return err
}

// removeIf removes the name if it still is the given file. One that is gone, or is
// another file by now, is left and is no error.
func (p *placed) removeIf(id fileID) error {
	// Another instance has done by then what it does; a stranger who will not let go
	// must not keep us from ending, nor a directory that we may not write to.
	if unlock, err := p.lock(removeTimeout); err == nil {
		defer unlock()
	}
	return p.dir.actor.do(func() error {
		stat, err := p.dir.stat(p.name)
		if errors.Is(err, unix.ENOENT) || err == nil && idOf(stat) != id {
			return nil
		}
		if err == nil {
			err = unix.Unlinkat(p.dir.fd(), p.name, 0)
		}
		if err != nil {
			return fmt.Errorf("cannot remove %s: %w", p.path, err)
		}
		return nil
	})
}

// explain makes an error of a system call something an operator can act on: it
// names the directory and the right that is missing there.
func (p *placed) explain(doing, path string, err error) error {
	me := userName(p.dir.actor.user())
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
