package spool

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// maxTreeDepth is how many levels are walked down, each of which holds a
	// descriptor. What lies deeper is moved up to the top and removed from there,
	// so that an archive of nested directories cannot use up our descriptors.
	maxTreeDepth = 16

	// maxTreePasses is how often one directory is read again because something was
	// removed from it. Only somebody who fills it meanwhile gets that far.
	maxTreePasses = 4096

	// maxRefills is how often a directory is emptied because something was put into
	// it before it could be removed: amavisd may still be unpacking when we have
	// given it up.
	maxRefills = 16
)

// errRefilled says that a directory does not become empty.
var errRefilled = errors.New("somebody keeps filling it")

// tree removes what lies in a directory.
type tree struct {
	top   int    // descriptor of that directory
	uid   int    // directories of this user are given the permissions they lack
	keep  string // the one name at the top that stays; "" for none
	moved int    // directories moved up to the top so far
}

// emptyDir removes all that lies in an open directory but the name keep, whatever
// it is, and never follows a link. It removes what it can before it returns the
// first error.
func emptyDir(fd, uid int, keep string) error {
	t := &tree{top: fd, uid: uid, keep: keep}
	return t.empty(fd, ".", 0)
}

// removeTree removes a name with all that lies below it. That it is not there, or
// no longer, is no error.
func removeTree(parent int, name string, uid int) error {
	fd, err := openOwnDir(parent, name, uid)
	switch err {
	case nil:
	case unix.ENOENT:
		return nil
	default:
		return fault(parent, name, name, err)
	}
	defer unix.Close(fd)
	if err := takeAccess(fd, uid); err != nil {
		return fault(parent, name, name, err)
	}
	err = removeEmptied(parent, name, name, func() error { return emptyDir(fd, uid, "") })
	if err != nil {
		return fmt.Errorf("in %q: %w", name, err)
	}
	return nil
}

// removeEmptied empties a directory and removes its name, and begins anew where
// something has come into it meanwhile; path is what it is called in errors. That it
// is not there is no error.
func removeEmptied(parent int, name, path string, empty func() error) error {
	for range maxRefills {
		if err := empty(); err != nil {
			return err
		}
		err := unlinkat(parent, name, unix.AT_REMOVEDIR)
		switch {
		case err == nil, err == unix.ENOENT:
			return nil
		case !isNotEmpty(err):
			return fault(parent, name, path, err)
		}
	}
	return fmt.Errorf("%q: %w", path, errRefilled)
}

// empty removes what lies in dir, which is depth levels below the top and called
// path there. It reads the directory anew until it has nothing left to remove: a
// file system may skip names when others are removed meanwhile, and directories
// may have been moved up.
func (t *tree) empty(dir int, path string, depth int) error {
	for range maxTreePasses {
		removed := false
		var first error
		err := readDir(dir, func(name string) error {
			if depth == 0 && name == t.keep {
				return nil
			}
			err := t.remove(dir, name, path, depth)
			if err == nil {
				removed = true
			} else if first == nil {
				first = err
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
		if !removed {
			return first
		}
	}
	return fmt.Errorf("%q: %w", path, errRefilled)
}

// remove removes one name in parent, which is called path.
func (t *tree) remove(parent int, name, path string, depth int) error {
	err := unlinkat(parent, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	path += "/" + name
	if err != unix.EISDIR && err != unix.EPERM {
		return fault(parent, name, path, err)
	}
	err = unlinkat(parent, name, unix.AT_REMOVEDIR)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if !isNotEmpty(err) {
		return fault(parent, name, path, err)
	}
	if depth == maxTreeDepth {
		return t.moveUp(parent, name, path)
	}
	return t.descend(parent, name, path, depth+1)
}

// descend removes a directory that is not empty.
func (t *tree) descend(parent int, name, path string, depth int) error {
	fd, err := openOwnDir(parent, name, t.uid)
	if err != nil {
		return fault(parent, name, path, err)
	}
	defer unix.Close(fd)
	if err := takeAccess(fd, t.uid); err != nil {
		return fault(parent, name, path, err)
	}
	return removeEmptied(parent, name, path, func() error { return t.empty(fd, path, depth) })
}

// moveUp moves a directory to the top, where the next pass finds it.
func (t *tree) moveUp(parent int, name, path string) error {
	// rename needs write permission on a directory that gets another parent.
	_ = chmodOwnDir(parent, name, t.uid)
	t.moved++
	to := ".deep-" + strconv.Itoa(t.moved)
	err := retry(func() error { return unix.Renameat(parent, name, t.top, to) })
	if err != nil {
		return fault(parent, name, path, err)
	}
	return nil
}

// takeAccess gives the owner of an open directory all permissions on it, if that
// is uid.
func takeAccess(fd, uid int) error {
	st, err := fstat(fd)
	if err != nil || int(st.Uid) != uid || st.Mode&0o700 == 0o700 {
		return err
	}
	return retry(func() error { return unix.Fchmod(fd, st.Mode&permBits|0o700) })
}

// fault describes why a name cannot be removed, with its owner, for that is nearly
// always the reason. The path is quoted: an archive may have chosen it.
func fault(parent int, name, path string, err error) error {
	if st, lerr := lstatat(parent, name); lerr == nil {
		return fmt.Errorf("removing %q (%s): %w", path, owner(st), err)
	}
	return fmt.Errorf("removing %q: %w", path, err)
}
