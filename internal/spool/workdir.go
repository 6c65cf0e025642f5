package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mustMatch is what every administrator has to know about the work directory:
// amavisd refuses a tempdir elsewhere (Amavis/In/AMPDP.pm, "Suspicious temporary
// directory name").
const mustMatch = "it must be amavisd's $TEMPBASE or $MYHOME, or lie below one of them"

// checkPath returns the work directory's path in its shortest form, and refuses
// one whose paths amavisd would refuse.
func checkPath(path string) (string, error) {
	refuse := func(what, advice string) (string, error) {
		return "", &SetupError{Kind: KindConfig, Path: path, What: what, Advice: advice}
	}
	switch {
	case path == "":
		return refuse("is no directory", "name one; "+mustMatch)
	case !strings.HasPrefix(path, "/"):
		return refuse("is not an absolute path", "write the path from / on; "+mustMatch)
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == ".." {
			return refuse("has .. in it, which amavisd refuses", "write the path without it, as $TEMPBASE or $MYHOME has it")
		}
		if part != "" && !isName(part) {
			return refuse("has a character that amavisd refuses in a tempdir", "use only letters, digits, dot, hyphen and underscore, and set $TEMPBASE to the same path")
		}
	}
	return filepath.Clean(path), nil
}

// openWorkDir opens the work directory, through links if it is one, and refuses
// it if others than uid and root could tamper with what we do there.
func openWorkDir(path string, uid int) (int, unix.Stat_t, error) {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.EACCES {
		// Somebody may let us through a directory without letting us read it.
		fd, err = openat(unix.AT_FDCWD, path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	var st unix.Stat_t
	if err != nil {
		return -1, st, workDirError(path, err)
	}
	st, err = fstat(fd)
	if err == nil {
		err = checkOwner(path, st, uid)
	} else {
		err = workDirError(path, err)
	}
	if err != nil {
		unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

func workDirError(path string, err error) error {
	switch err {
	case unix.ENOENT:
		return &SetupError{KindConfig, path, "does not exist",
			fmt.Sprintf("make it, mode 0750, for the account that amavisd runs as (it is never made here); %s", mustMatch), err}
	case unix.ENOTDIR:
		return &SetupError{KindConfig, path, "is not a directory", "name a directory; " + mustMatch, err}
	case unix.ELOOP:
		return &SetupError{KindConfig, path, "is a chain of links without an end", "name a directory; " + mustMatch, err}
	case unix.EACCES:
		return &SetupError{KindPermission, path, fmt.Sprintf("cannot be entered by uid %d", os.Geteuid()),
			"run as the account that amavisd runs as, or give this account the right to enter every directory of the path", err}
	}
	return &SetupError{setupKind(err), path, "cannot be opened", "see to what the system says", err}
}

// checkOwner refuses a directory that a stranger owns or anybody may write to:
// either could replace milter/ with a directory of his own. The sticky bit does
// not help, since milter/ may not be there yet.
func checkOwner(path string, st unix.Stat_t, uid int) error {
	if int(st.Uid) != uid && st.Uid != 0 {
		return &SetupError{Kind: KindConfig, Path: path,
			What:   fmt.Sprintf("belongs to uid %d, neither to this process (uid %d) nor to root", st.Uid, uid),
			Advice: "run as the account that owns it, which is amavisd's, or chown it"}
	}
	if st.Mode&0o002 != 0 {
		return &SetupError{Kind: KindConfig, Path: path,
			What:   fmt.Sprintf("is writable by everybody (mode %04o)", st.Mode&permBits),
			Advice: "use a directory of amavisd's own, or chmod o-w; " + mustMatch}
	}
	return nil
}

// replaceable returns a directory above path, as it is written or behind its links,
// in which others than uid and root can rename things; "" if there is none.
func replaceable(path string, uid int) string {
	paths := []string{path}
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
		paths = append(paths, real)
	}
	for _, path := range paths {
		for dir := path; dir != "/"; {
			dir = filepath.Dir(dir)
			var up unix.Stat_t
			if unix.Stat(dir, &up) != nil {
				continue
			}
			others := up.Mode&0o002 != 0 || up.Mode&0o020 != 0 && up.Gid != 0
			if up.Uid != 0 && int(up.Uid) != uid || others && up.Mode&unix.S_ISVTX == 0 {
				return fmt.Sprintf("%s (%s)", dir, owner(up))
			}
		}
	}
	return ""
}

// workDirWarnings returns what is allowed about a work directory but seldom meant,
// each in one line.
func workDirWarnings(path string, st unix.Stat_t, uid int) []string {
	var warnings []string
	warn := func(format string, args ...any) {
		warnings = append(warnings, fmt.Sprintf("work directory: "+format, args...))
	}
	for part := range strings.SplitSeq(path, "/") {
		if strings.Contains(part, "amavis-") {
			warn("%s has \"amavis-\" in its path: amavisd takes its log id from there instead of from the queue id; choose a path without it", path)
			break
		}
	}
	if st.Mode&0o020 != 0 {
		warn("%s is writable by its group (gid %d): every member can take mail away, or have amavisd scan other mail in its place; chmod g-w unless amavisd needs it", path, st.Gid)
	}
	if st.Mode&0o005 != 0 {
		warn("%s can be entered or read by everybody (mode %04o): fine if the socket must lie in it, chmod o-rx otherwise", path, st.Mode&permBits)
	}
	if above := replaceable(path, uid); above != "" {
		warn("%s can be replaced by whoever can write to %s, who can then have amavisd scan other mail; let that belong to root, or to uid %d, and be writable for nobody else", path, above, uid)
	}
	for dir := path; dir != "/"; dir = filepath.Dir(dir) {
		var up unix.Stat_t
		if unix.Stat(dir, &up) == nil && up.Mode&0o011 == 0 {
			warn("%s can be entered by its owner alone (mode %04o): a virus scanner with an account of its own cannot read the mail, and then it passes unscanned; chmod g+x", dir, up.Mode&permBits)
		}
	}
	return warnings
}
