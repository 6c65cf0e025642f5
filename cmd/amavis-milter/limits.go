package main

import (
	"log/slog"
	"syscall"

	"github.com/amavis-milter/amavis-milter/internal/config"
	"github.com/amavis-milter/amavis-milter/milter"
)

const (
	// ownFiles is how many descriptors there have to be beside those of sessions: sockets,
	// logs, probes of scanners, and connections that are told of a limit.
	ownFiles = 64 + 256

	// filesPerSession is how many descriptors a session has at the most: its connection,
	// the message's directory, and the mail file or later the connection to amavisd.
	filesPerSession = 3

	// idleFactor is how many times --timeout a session may last without a message: a slow
	// SMTP client may be silent as long after every command.
	idleFactor = 2
)

// milterTimes returns the bounds on waiting for the MTA.
func milterTimes(cfg *config.Config) milter.Times {
	times := milter.DefaultTimes()
	// An MTA may be silent no longer inside of a frame than between two of them.
	times.Idle, times.Frame, times.Negotiate = cfg.Timeout, min(times.Frame, cfg.Timeout), min(times.Negotiate, cfg.Timeout)
	times.Session = max(times.Session, idleFactor*cfg.Timeout)
	times.Verdict = cfg.Deadline + verdictGrace
	return times
}

// milterLimits returns the limits on connections, cut to what the limit on open files
// allows: where that is met an MTA would get no answer at all. The Go runtime has
// raised the soft limit to the hard one already.
func milterLimits(cfg *config.Config, log *slog.Logger) milter.Limits {
	limits := milter.Limits{Sessions: cfg.MaxSessions, SessionsPerAddress: cfg.MaxSessionsPerAddress}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return limits
	}
	most := sessionsFor(files.Cur)
	if limits.Sessions == 0 || limits.Sessions > most {
		if limits.Sessions != 0 {
			log.Warn("the limit on open files allows fewer sessions than --max-sessions: raise the hard limit (ulimit -Hn, LimitNOFILE)", "open_files", files.Cur, "sessions", most, "max_sessions", cfg.MaxSessions)
		}
		limits.Sessions = most
	}
	return limits
}

// sessionsFor returns how many sessions a limit on open files is enough for.
func sessionsFor(files uint64) int {
	const enough = 1 << 30 // no limit
	if files > enough {
		files = enough
	}
	return max((int(files)-ownFiles)/filesPerSession, 1)
}
