package config

import (
	"log/slog"
	"time"
)

// combine works out what the options mean together and notes those that contradict
// each other or have no effect.
func (d *draft) combine() {
	d.combineService()
	d.combineSocket()
	d.combinePolicies()
	d.combineTimes()

	d.combineRules()

	if d.noXHeader {
		if d.given["x-header"] {
			d.contradiction("no-x-header", "x-header")
		}
		d.XHeader = Header{}
	}
	if len(d.amavisd) > 0 {
		d.combineScanners()
	}
	d.PIDFileOptional = d.PIDFile != "" && !d.given["pid-file"]
}

// contradiction notes two options of which only one can hold.
func (d *draft) contradiction(one, other string) {
	d.misuse("%s and %s contradict each other: write one of them", d.dialect.names(one), d.dialect.names(other))
}

// combineScanners takes each scanner once.
func (d *draft) combineScanners() {
	if len(d.amavisd) > maxScanners {
		d.misuse("%s is given %d times: write it at most %d times", d.dialect.names("amavisd-socket"), len(d.amavisd), maxScanners)
		return
	}
	d.Amavisd = nil
	for _, s := range d.amavisd {
		d.addScanner(s)
	}
}

// addScanner adds a scanner that is not there yet.
func (d *draft) addScanner(s Socket) {
	for _, earlier := range d.Amavisd {
		if earlier.sameAs(s, d.env) {
			d.warn("%s: %q is given twice: the second is left out", d.dialect.names("amavisd-socket"), s.String())
			return
		}
	}
	d.Amavisd = append(d.Amavisd, s)
}

func (d *draft) combineService() {
	if d.daemonize && d.Foreground {
		d.contradiction("daemonize", "foreground")
	}
	if d.daemonize && d.debug {
		d.contradiction("daemonize", "debug")
	}
	d.Foreground = d.Foreground || d.debug
	if d.verbose || d.debug || d.debugLevel > 0 {
		d.LogLevel = slog.LevelDebug
	}
	switch {
	case d.LogTarget == TargetDefault && d.Foreground:
		d.LogTarget = TargetStderr
	case d.LogTarget == TargetDefault:
		d.LogTarget = TargetSyslog
	case d.LogTarget == TargetStderr && !d.Foreground:
		d.misuse("--log-target stderr: a daemon has no stderr: write %s as well, or --log-target syslog", d.dialect.short("foreground"))
	}
}

func (d *draft) combineSocket() {
	if d.socketGroup != "" && d.ownerGroup != "" && d.socketGroup != d.ownerGroup {
		d.misuse("%s %s and --socket-owner with group %s contradict each other: write the group once", d.dialect.names("group"), d.socketGroup, d.ownerGroup)
	}
	d.SocketGroup = d.ownerGroup
	if d.socketGroup != "" {
		d.SocketGroup = d.socketGroup
	}
	if !d.Socket.IsLocal() {
		for _, name := range []string{"group", "socket-mode", "socket-owner"} {
			if d.given[name] {
				d.warn("--%s has no effect: %s is not a local socket", name, d.Socket)
			}
		}
		return
	}
	const groupWrite, otherWrite = 0o020, 0o002 // connect(2) needs the right to write
	if d.SocketMode&otherWrite != 0 {
		d.warn("--socket-mode %04o lets every account of this host connect: --group and 0660 let only the MTA", d.SocketMode)
	}
	if d.SocketGroup != "" && d.SocketMode&groupWrite == 0 {
		d.warn("--socket-mode %04o keeps the group %s from connecting: write 0660", d.SocketMode, d.SocketGroup)
	}
}

// combineTimes warns of times that were given and can never be reached.
func (d *draft) combineTimes() {
	for _, t := range []struct {
		name  string
		value time.Duration
	}{
		{"max-wait", d.MaxWait},
		{"amavisd-timeout", d.AmavisdTimeout},
		{"retry-time", d.RetryTime},
	} {
		if d.given[t.name] && t.value > d.Deadline {
			d.warn("--%s %s is cut to --deadline %s", t.name, shortTime(t.value), shortTime(d.Deadline))
		}
	}
	if d.given["retry-time"] && d.RetryTime > d.MaxWait && d.MaxWait <= d.Deadline {
		d.warn("--retry-time %s is cut to --max-wait %s", shortTime(d.RetryTime), shortTime(d.MaxWait))
	}
}
