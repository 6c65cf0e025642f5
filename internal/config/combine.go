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

	if d.noXHeader {
		if d.given["x-header"] {
			d.misuse("-x/--no-x-header and --x-header contradict each other: write one of them")
		}
		d.XHeader = Header{}
	}
	if len(d.amavisd) > 0 {
		d.combineScanners()
	}
}

// combineScanners takes each scanner once.
func (d *draft) combineScanners() {
	if len(d.amavisd) > maxScanners {
		d.misuse("-S/--amavisd-socket is given %d times: write it at most %d times", len(d.amavisd), maxScanners)
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
			d.warn("-S/--amavisd-socket: %q is given twice: the second is left out", s.String())
			return
		}
	}
	d.Amavisd = append(d.Amavisd, s)
}

func (d *draft) combineService() {
	if d.daemonize && d.Foreground {
		d.misuse("-D/--daemonize and -f/--foreground contradict each other: write one of them")
	}
	if d.daemonize && d.debug {
		d.misuse("-D/--daemonize and -d/--debug contradict each other: write one of them")
	}
	d.Foreground = d.Foreground || d.debug
	if d.verbose || d.debug {
		d.LogLevel = slog.LevelDebug
	}
	switch {
	case d.LogTarget == TargetDefault && d.Foreground:
		d.LogTarget = TargetStderr
	case d.LogTarget == TargetDefault:
		d.LogTarget = TargetSyslog
	case d.LogTarget == TargetStderr && !d.Foreground:
		d.misuse("--log-target stderr: a daemon has no stderr: write -f as well, or --log-target syslog")
	}
}

func (d *draft) combineSocket() {
	if d.socketGroup != "" && d.ownerGroup != "" && d.socketGroup != d.ownerGroup {
		d.misuse("-g/--group %s and --socket-owner with group %s contradict each other: write the group once", d.socketGroup, d.ownerGroup)
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
