package lab

import (
	"fmt"
	"os"
	"strings"
)

// The accounts of the lab. Their numbers mean nothing outside.
const (
	amavisUID = 810
	amavisGID = 810
	clamavUID = 811
	clamavGID = 811
	smmtaID   = 812
	smmspID   = 813
	vscanUID  = 814

	postfixUID  = 815
	postfixGID  = 815
	postdropGID = 816
	saslGID     = 817
)

// passwd and group are what Debian's maintainer scripts would have made: clamd's
// user must be in group amavis to read what amavisd unpacks.
var (
	passwd = []string{
		"root:x:0:0:root:/root:/bin/bash",
		"daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin",
		"mail:x:8:8:mail:/var/mail:/usr/sbin/nologin",
		fmt.Sprintf("amavis:x:%d:%d:AMaViS:/var/lib/amavis:/bin/sh", amavisUID, amavisGID),
		fmt.Sprintf("clamav:x:%d:%d::/var/lib/clamav:/bin/false", clamavUID, clamavGID),
		fmt.Sprintf("smmta:x:%d:%d:Mail Transfer Agent:/var/lib/sendmail:/usr/sbin/nologin", smmtaID, smmtaID),
		fmt.Sprintf("smmsp:x:%d:%d:Mail Submission Program:/var/lib/sendmail:/usr/sbin/nologin", smmspID, smmspID),
		fmt.Sprintf("vscan:x:%d:%d:a scanner's account:/nonexistent:/bin/sh", vscanUID, amavisGID),
		fmt.Sprintf("postfix:x:%d:%d::/var/spool/postfix:/usr/sbin/nologin", postfixUID, postfixGID),
		"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
	}
	group = []string{
		"root:x:0:", "daemon:x:1:", "sys:x:3:", "adm:x:4:", "tty:x:5:", "mail:x:8:",
		fmt.Sprintf("amavis:x:%d:clamav", amavisGID),
		fmt.Sprintf("clamav:x:%d:", clamavGID),
		fmt.Sprintf("smmta:x:%d:", smmtaID),
		fmt.Sprintf("smmsp:x:%d:amavis", smmspID),
		fmt.Sprintf("postfix:x:%d:amavis", postfixGID),
		fmt.Sprintf("postdrop:x:%d:", postdropGID),
		fmt.Sprintf("sasl:x:%d:postfix", saslGID),
		"nogroup:x:65534:",
	}
)

// pamFiles let root become anyone, and nobody anyone else: Debian makes its own
// in maintainer scripts.
var pamFiles = map[string]string{
	"/etc/pam.d/su":        pamRootOnly,
	"/etc/pam.d/su-l":      pamRootOnly,
	"/etc/pam.d/runuser":   pamRootOnly,
	"/etc/pam.d/runuser-l": pamRootOnly,
	"/etc/pam.d/other":     "auth required pam_deny.so\naccount required pam_deny.so\npassword required pam_deny.so\nsession required pam_deny.so\n",
}

const pamRootOnly = "auth sufficient pam_rootok.so\nauth required pam_deny.so\naccount required pam_permit.so\nsession required pam_permit.so\n"

// directories are made by Debian's maintainer scripts, or by tmpfiles.
var directories = []struct {
	path     string
	mode     os.FileMode
	uid, gid int
}{
	{"/run/lock", 0o1777, 0, 0},
	{"/run/amavis", 0o755, amavisUID, amavisGID},
	{"/run/clamav", 0o755, clamavUID, clamavGID},
	{"/var/lib/amavis", 0o750, amavisUID, amavisGID},
	{"/var/lib/amavis/tmp", 0o750, amavisUID, amavisGID},
	{"/var/lib/amavis/db", 0o750, amavisUID, amavisGID},
	{"/var/lib/amavis/virusmails", 0o750, amavisUID, amavisGID},
	{"/var/amavis", 0o750, amavisUID, amavisGID},
	{"/var/lib/clamav", 0o755, clamavUID, clamavGID},
	{"/var/lib/sendmail", 0o755, 0, 0},
	{"/var/spool/mqueue", 0o700, 0, 0},
	{"/etc/mail", 0o755, 0, 0},
	{"/var/spool/postfix", 0o755, 0, 0},
	{"/var/spool/postfix/amavis", 0o750, amavisUID, postfixGID}, // as contrib/postfix has it
	{"/var/lib/postfix", 0o755, postfixUID, postfixGID},
	{"/root", 0o700, 0, 0},
	{"/tmp", 0o1777, 0, 0},
}

func prepareAccounts() error {
	files := map[string]string{
		"/etc/passwd": strings.Join(passwd, "\n") + "\n",
		"/etc/group":  strings.Join(group, "\n") + "\n",
	}
	for path, text := range pamFiles {
		files[path] = text
	}
	if err := writeFiles(files); err != nil {
		return fmt.Errorf("writing the accounts: %w", err)
	}
	for link, target := range map[string]string{"/var/run": "/run", "/var/lock": "/run/lock"} {
		if err := os.RemoveAll(link); err != nil {
			return err
		}
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	for _, dir := range directories {
		if err := os.MkdirAll(dir.path, 0o755); err != nil {
			return fmt.Errorf("making the servers' directories: %w", err)
		}
		if err := os.Chown(dir.path, dir.uid, dir.gid); err != nil {
			return err
		}
		mode := dir.mode.Perm()
		if dir.mode&0o1000 != 0 {
			mode |= os.ModeSticky
		}
		if err := os.Chmod(dir.path, mode); err != nil {
			return err
		}
	}
	return nil
}

// GiveToAmavis makes a directory the property of account amavis, so that a
// program that runs as it (see StartForeground) can work there. It does nothing
// for one who is not root.
func GiveToAmavis(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(dir, amavisUID, amavisGID)
}
