package daemon

import (
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links a path may have, as in path_resolution(7).
const maxLinks = 40

// openWay opens a directory, and reports whether the way to it is fixed: whether none
// but root can change, in any directory and by any link on the way, where the path
// leads to. Links themselves are followed: /var/run is one.
func openWay(path string) (opened int, fixed bool, err error) {
	at, err := openPath(unix.AT_FDCWD, "/")
	if err != nil {
		return -1, false, err
	}
	defer func() { unix.Close(at) }()
	fixed = true
	links := 0
	for rest := strings.Split(path, "/"); len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" {
			continue
		}
		next, target, stays, err := step(at, name)
		if err != nil {
			return -1, false, err
		}
		fixed = fixed && stays
		if target != "" {
			rest = append(strings.Split(target, "/"), rest...)
			if links++; links > maxLinks {
				return -1, false, unix.ELOOP
			}
		}
		if next >= 0 {
			unix.Close(at)
			at = next
		}
	}
	opened, err = openDirectory(at, ".")
	return opened, fixed, err
}

// step goes one name further from the directory at: to next, or by a link to its target
// from there, where next is the root or -1, which is where we are. fixed says that none
// but root can change it.
func step(at int, name string) (next int, target string, fixed bool, err error) {
	next, err = openPath(at, name)
	if err != nil {
		return -1, "", false, err
	}
	var dir, entry unix.Stat_t
	err = unix.Fstat(at, &dir)
	if err == nil {
		err = unix.Fstat(next, &entry)
	}
	if err == nil && entry.Mode&unix.S_IFMT != unix.S_IFLNK {
		return next, "", isFixed(&dir, &entry), nil
	}
	if err == nil {
		target, err = readLink(next)
	}
	unix.Close(next)
	next = -1
	if err == nil && strings.HasPrefix(target, "/") {
		next, err = openPath(unix.AT_FDCWD, "/")
	}
	return next, target, isFixed(&dir, &entry), err
}

// isFixed reports whether none but root can put something else in the place of an
// entry of a directory: nobody else may write there, or the sticky bit protects it.
func isFixed(dir, entry *unix.Stat_t) bool {
	sticky := dir.Uid == 0 && dir.Mode&unix.S_ISVTX != 0 && entry.Uid == 0
	return sticky || onlyRootWrites(dir)
}

// onlyRootWrites reports whether none but root, and the group of that number, can write
// to a directory.
func onlyRootWrites(dir *unix.Stat_t) bool {
	group := dir.Mode&unix.S_IWGRP != 0 && dir.Gid != 0
	return dir.Uid == 0 && dir.Mode&unix.S_IWOTH == 0 && !group
}

func openPath(dir int, name string) (int, error) {
	return ignoringEINTR(func() (int, error) {
		return unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

func openDirectory(dir int, name string) (int, error) {
	return ignoringEINTR(func() (int, error) {
		return unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
}

// readLink returns what an open symbolic link says.
func readLink(fd int) (string, error) {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", target)
	if err != nil {
		return "", err
	}
	return string(target[:n]), nil
}
