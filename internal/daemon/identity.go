package daemon

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// identity is whose rights in the file system root takes on for a while. What root
// makes, replaces or removes in a directory of somebody else's is a race that the
// other can win: he swaps links, names and whole directories between our looking and
// our doing. With his own rights we can do nothing there for him that he could not
// do himself. A nil identity is who the process is.
type identity struct {
	uid, gid int
	groups   []int
}

// identityFor chooses whose rights are enough in a directory. fixed says that none
// but root can change where its path leads to; account is who the process will be.
func identityFor(dir *unix.Stat_t, fixed bool, account *Account) *identity {
	switch {
	case account == nil || os.Geteuid() != 0:
		return nil
	case fixed && onlyRootWrites(dir):
		return nil // root's own, as /run is
	case fixed && dir.Uid != 0 && int(dir.Uid) != account.UID:
		return &identity{uid: int(dir.Uid), gid: account.GID} // the MTA's, say
	case fixed && dir.Uid == 0 && dir.Mode&unix.S_IWOTH == 0:
		return &identity{account.UID, account.GID, append([]int{int(dir.Gid)}, account.Groups...)}
	}
	return &identity{account.UID, account.GID, account.Groups}
}

// user returns whose files we make.
func (id *identity) user() int {
	if id == nil {
		return os.Geteuid()
	}
	return id.uid
}

// do calls f with the rights of id, on a thread that f must not leave; f may call it for
// another identity. After DropPrivileges it is f alone.
func (id *identity) do(f func() error) error {
	if id == nil || os.Geteuid() != 0 {
		return f()
	}
	runtime.LockOSThread()
	wasUID, wasGID := fileRights()
	groups, err := unix.Getgroups()
	if err == nil {
		err = setFileRights(id.uid, id.gid, id.groups)
	}
	if err == nil {
		err = f()
	}
	if back := setFileRights(wasUID, wasGID, groups); back != nil {
		// The thread stays locked, and ends with its goroutine.
		return errors.Join(err, failf(ExitOS, "cannot take back the rights of root: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}

// setFileRights sets the user, group and groups by which the kernel judges this
// thread's file system calls. With a user who is not root it loses the capabilities that
// override permissions, and gets them back with root.
func setFileRights(uid, gid int, groups []int) error {
	// These calls of x/sys act on one thread, unlike those of package syscall.
	err := unix.Setgroups(groups)
	if err == nil {
		err = errors.Join(unix.Setfsgid(gid), unix.Setfsuid(uid))
	}
	if err != nil {
		return failf(ExitOS, "cannot take on the rights of user %s: %w", userName(uid), err)
	}
	// Neither call tells whether it did anything.
	if nowUID, nowGID := fileRights(); nowUID != uid || nowGID != gid {
		return failf(ExitOS, "cannot take on the rights of user %s: the kernel did not", userName(uid))
	}
	return nil
}

// fileRights returns the user and group of setFileRights: an impossible id changes
// nothing.
func fileRights() (uid, gid int) {
	uid, _ = unix.SetfsuidRetUid(-1)
	gid, _ = unix.SetfsgidRetGid(-1)
	return uid, gid
}
