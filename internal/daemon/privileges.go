package daemon

import (
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// DropPrivileges takes on the rights of account for good: its supplementary
// groups, its group and its user, real, effective and saved, in all threads of
// the process; then it makes sure that there is no way back. A process that runs
// as that user already is left as it is. After an error the process must end: it
// may have lost a part of its rights.
func DropPrivileges(account *Account) error {
	if account.UID == 0 {
		return failf(ExitConfiguration, "user %s has all rights: name one that has few, such as amavis", account.Name)
	}
	if os.Getuid() == account.UID && os.Geteuid() == account.UID {
		return nil
	}
	if os.Geteuid() != 0 {
		return failf(ExitNoPermission, "user %s cannot become user %s: start as root, or as %[2]s without --user", userName(os.Geteuid()), account.Name)
	}
	// The order matters: without uid 0 the groups can be changed no more. These
	// calls of package syscall act on all threads.
	if err := syscall.Setgroups(account.Groups); err != nil {
		return failf(ExitOS, "cannot take on the groups of user %s: %w", account.Name, err)
	}
	if err := syscall.Setresgid(account.GID, account.GID, account.GID); err != nil {
		return failf(ExitOS, "cannot take on the group of user %s: %w", account.Name, err)
	}
	if err := syscall.Setresuid(account.UID, account.UID, account.UID); err != nil {
		return failf(ExitOS, "cannot become user %s: %w", account.Name, err)
	}
	return verifyDropped(account)
}

// verifyDropped tries the way back to root on one thread; should it succeed, the
// process is to end anyway. It does where securebits of whoever started us let
// capabilities outlive the change: CAP_SETUID, which we needed, is among them.
func verifyDropped(account *Account) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); errno == 0 {
		return failf(ExitOS, "the rights of root can be regained after becoming user %s", account.Name)
	}
	if ruid, euid, suid := unix.Getresuid(); ruid != account.UID || euid != account.UID || suid != account.UID {
		return failf(ExitOS, "user ids are %d, %d, %d after becoming user %s (%d)", ruid, euid, suid, account.Name, account.UID)
	}
	if rgid, egid, sgid := unix.Getresgid(); rgid != account.GID || egid != account.GID || sgid != account.GID {
		return failf(ExitOS, "group ids are %d, %d, %d after becoming user %s (group %d)", rgid, egid, sgid, account.Name, account.GID)
	}
	groups, err := syscall.Getgroups()
	if err != nil {
		return failf(ExitOS, "cannot read back the groups of user %s: %w", account.Name, err)
	}
	for _, gid := range groups {
		if gid != account.GID && !slices.Contains(account.Groups, gid) {
			return failf(ExitOS, "group %s is left after becoming user %s", groupName(gid), account.Name)
		}
	}
	return nil
}

// ForbidCoreDumps makes sure that no core file can hold mail, and that another
// process of the same user cannot read our memory (ptrace(2)). It is to be called
// after [DropPrivileges], for a change of user sets the flag anew. A program that is
// executed could not get more rights by that than we have, either: none is meant to be.
func ForbidCoreDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return failf(ExitOS, "cannot forbid core files: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return failf(ExitOS, "cannot forbid core dumps: %w", err)
	}
	// With cgo this can be done for one thread only; a detached process has it on all
	// from its start.
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if errno != 0 && errno != unix.ENOTSUP {
		return failf(ExitOS, "cannot forbid new privileges: %w", errno)
	}
	return nil
}
