package spool

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// permBits are the mode bits that chmod(2) can change.
const permBits = 0o7777

// openDirFlags open a directory itself, never what a symbolic link points to.
const openDirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// retry calls f again as long as a signal interrupts it. On local file systems
// that never happens; on FUSE and NFS it does.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func openat(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = retry(func() (err error) {
		fd, err = unix.Openat(dir, name, flags, mode)
		return err
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
}

func mkdirat(dir int, name string, mode uint32) error {
	return retry(func() error { return unix.Mkdirat(dir, name, mode) })
}

func unlinkat(dir int, name string, flags int) error {
	return retry(func() error { return unix.Unlinkat(dir, name, flags) })
}

// lstatat looks at a name in a directory, at the link itself if it is one.
func lstatat(dir int, name string) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

func fstat(fd int) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstat(fd, &st) })
	return st, err
}

func isDir(st unix.Stat_t) bool     { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
func isRegular(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }

// isNotEmpty reports whether rmdir failed because the directory is not empty;
// POSIX allows two codes for that.
func isNotEmpty(err error) bool { return err == unix.ENOTEMPTY || err == unix.EEXIST }

// isGone reports whether a directory that was opened earlier has been removed
// since: then it has no name any more.
func isGone(fd int) bool {
	st, err := fstat(fd)
	return err == nil && st.Nlink == 0
}

// openOwnDir opens a directory that may lack the permissions which its owner
// needs. Where it is ours, it is given them first.
func openOwnDir(parent int, name string, uid int) (int, error) {
	fd, err := openat(parent, name, openDirFlags, 0)
	if err == unix.EACCES && chmodOwnDir(parent, name, uid) == nil {
		fd, err = openat(parent, name, openDirFlags, 0)
	}
	return fd, err
}

// chmodOwnDir gives the owner of a directory, if that is uid, all permissions. It
// works on a directory that we cannot open, and never follows a link: the
// directory is pinned by an O_PATH descriptor, looked at, and changed through
// that (fchmodat with AT_SYMLINK_NOFOLLOW needs Linux 6.6).
func chmodOwnDir(parent int, name string, uid int) error {
	fd, err := openat(parent, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	st, err := fstat(fd)
	if err != nil {
		return err
	}
	if int(st.Uid) != uid {
		return unix.EACCES
	}
	mode := st.Mode&permBits | 0o700
	return retry(func() error { return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode) })
}

// setMode gives an open file or directory exactly these permissions, whatever the
// umask made of them. A setgid bit is kept: in a directory that has it, files
// belong to the directory's group, which may be just what a site relies on.
func setMode(fd int, st unix.Stat_t, perm uint32) error {
	want := perm | st.Mode&unix.S_ISGID
	if st.Mode&permBits == want {
		return nil
	}
	return retry(func() error { return unix.Fchmod(fd, want) })
}

// owner describes who may use a file or directory, for an error message.
func owner(st unix.Stat_t) string {
	return fmt.Sprintf("uid %d, gid %d, mode %04o", st.Uid, st.Gid, st.Mode&permBits)
}

// quotePath makes a path safe to stand in a line of text: as it is if it consists
// of harmless characters, quoted otherwise.
func quotePath(path string) string {
	for i := range len(path) {
		if !isNameByte(path[i]) && path[i] != '/' {
			return strconv.Quote(path)
		}
	}
	if path == "" {
		return `""`
	}
	return path
}

// dirBlock is the size in bytes of one read of a directory.
const dirBlock = 8 << 10

// readDir calls f with each name in an open directory but "." and "..", from its
// beginning, and stops at an error.
func readDir(fd int, f func(name string) error) error {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return fmt.Errorf("reading directory: %w", err)
	}
	block := make([]byte, dirBlock)
	var names []string
	for {
		var n int
		err := retry(func() (err error) {
			n, err = unix.ReadDirent(fd, block)
			return err
		})
		// A directory that was removed meanwhile has nothing more to show.
		if n <= 0 && (err == nil || errors.Is(err, unix.ENOENT)) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading directory: %w", err)
		}
		_, _, names = unix.ParseDirent(block[:n], -1, names[:0])
		for _, name := range names {
			if err := f(name); err != nil {
				return err
			}
		}
	}
}
