package config

import (
	"errors"
	"io/fs"
	"os/user"
	"strconv"
	"strings"
)

// checkMachine notes what is wrong on this machine. Only what can be seen without
// opening anything is looked at here.
func (d *draft) checkMachine() {
	d.checkAccounts()
	d.checkSockets()
	d.checkWorkDir()
}

// maxID is the largest user or group id; the one above it is chown(2)'s "no
// change".
const maxID = 1<<32 - 2

func (d *draft) checkAccounts() {
	uid, known := d.env.Euid, !d.broken["user"]
	if d.User != "" {
		uid, known = d.lookupUser("--user", d.User)
	}
	switch {
	case !known:
	case uid == 0 && d.User != "":
		d.wrongHere("--user %s is root, and mail is not scanned as root: write the account of amavisd, as in --user amavis", d.User)
	case uid == 0:
		d.wrongHere("running as root, and mail is not scanned as root: start as the account of amavisd, or write --user, as in --user amavis")
	case d.env.Euid != 0 && uid != d.env.Euid:
		d.wrongHere("--user %s: only root can become another user: start as root, or as %s without --user", d.User, d.User)
	}
	if d.SocketUser != "" {
		d.lookupUser("--socket-owner", d.SocketUser)
	}
	if d.socketGroup != "" {
		d.lookupGroup(d.dialect.names("group"), d.socketGroup)
	}
	if d.ownerGroup != "" {
		d.lookupGroup("--socket-owner", d.ownerGroup)
	}
}

// lookupUser returns the id of a user's name or number.
func (d *draft) lookupUser(option, name string) (uid int, known bool) {
	u, err := d.env.LookupUser(name)
	if err == nil {
		uid, err = strconv.Atoi(u.Uid)
		return uid, err == nil
	}
	if id, err := strconv.ParseUint(name, 10, 32); err == nil && id <= maxID {
		return int(id), true
	}
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		d.wrongHere("%s: there is no user %q: write one that getent passwd lists", option, name)
	} else {
		d.wrongHere("%s: user %q cannot be looked up: %s", option, name, oneLine(err))
	}
	return 0, false
}

func (d *draft) lookupGroup(option, name string) {
	_, err := d.env.LookupGroup(name)
	if err == nil {
		return
	}
	if id, err := strconv.ParseUint(name, 10, 32); err == nil && id <= maxID {
		return
	}
	if unknown := user.UnknownGroupError(""); errors.As(err, &unknown) {
		d.wrongHere("%s: there is no group %q: write one that getent group lists", option, name)
		return
	}
	d.wrongHere("%s: group %q cannot be looked up: %s", option, name, oneLine(err))
}

// checkSockets notes a scanner that is our own socket: each message would be sent
// to ourselves.
func (d *draft) checkSockets() {
	if d.broken["socket"] || d.broken["amavisd-socket"] {
		return // what is compared would not be what is meant
	}
	for _, s := range d.Amavisd {
		if d.Socket.sameAs(s, d.env) {
			d.wrongHere("%s %q and %s %q are the same socket: write amavisd's own after %s", d.dialect.names("socket"), d.Socket.String(),
				d.dialect.names("amavisd-socket"), s.String(), d.dialect.short("amavisd-socket"))
		}
	}
	if d.PIDFile == "" {
		return
	}
	for _, s := range append([]Socket{d.Socket}, d.Amavisd...) {
		if s.IsLocal() && d.env.samePath(s.Address, d.PIDFile) {
			d.wrongHere("%s %q is a socket of ours or of amavisd: write another file", d.dialect.names("pid-file"), d.PIDFile)
		}
	}
}

// checkWorkDir notes a work directory that is not there. Its owner and mode are
// looked at by the one who opens it. After another mistake the default may not be
// what is meant, and nothing is said of it.
func (d *draft) checkWorkDir() {
	if d.broken["work-dir"] || !d.given["work-dir"] && len(d.problems) > 0 {
		return
	}
	info, err := d.env.Stat(d.WorkDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.wrongHere("%s %q does not exist and is never created: create it for the account of amavisd, or write amavisd's $TEMPBASE or $MYHOME", d.dialect.names("work-dir"), d.WorkDir)
	case err == nil && !info.IsDir():
		d.wrongHere("%s %q is not a directory: write amavisd's $TEMPBASE or $MYHOME", d.dialect.names("work-dir"), d.WorkDir)
	}
}

// oneLine returns an error's text as one line that a terminal can show.
func oneLine(err error) string {
	printable := strings.Map(func(r rune) rune {
		if isUnprintable(r) {
			return ' '
		}
		return r
	}, err.Error())
	return strings.Join(strings.Fields(printable), " ")
}
