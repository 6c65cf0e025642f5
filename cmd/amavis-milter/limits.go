package main

import (
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/amavis-milter/amavis-milter/internal/config"
	"github.com/amavis-milter/amavis-milter/milter"
)

const (
	// ownFiles is how many descriptors the program itself has need of: sockets, logs,
	// probes of scanners.
	ownFiles = 64

	// filesPerSession is how many descriptors a session has need of on average: its
	// connection, and for some of them the message's directory and file, and the
	// connection to amavisd. With more sessions there would be none left for these.
	filesPerSession = 2

	// idleFactor is how many times --timeout a session may last without a message: a slow
	// SMTP client may be silent as long after every command.
	idleFactor = 2

	// ownMemory and memoryPerSession, in bytes, are what the program has need of at the
	// most, read buffers of large frames and the garbage of busy sessions included.
	ownMemory        = 40 << 20
	memoryPerSession = 24 << 10

	// manySessions is from how many sessions on memory is scarce.
	manySessions = 512

	// scarceGarbage and usualGarbage are how much garbage may come before it is collected,
	// in per cent of what is in use. With few sessions that is little: to collect it as
	// often as with many costs up to a tenth of all CPU and saves a few megabytes, which
	// come back when it is quiet.
	scarceGarbage = 100
	usualGarbage  = 400
)

// limitMemory has garbage collected oftener rather than the program larger than its
// sessions explain, and less often when they are few, unless the administrator has set
// GOMEMLIMIT and GOGC. It must come before the server serves.
func limitMemory(server *milter.Server, limits milter.Limits) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(ownMemory + memoryPerSession*int64(limits.Sessions))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(usualGarbage)
		server.OnMany(manySessions, func(many bool) {
			if many {
				debug.SetGCPercent(scarceGarbage)
			} else {
				debug.SetGCPercent(usualGarbage)
			}
		})
	}
	server.OnQuiet(returnMemory)
}

// returnMemory gives back to the system what a burst of mail has taken: kept buffers and
// deep stacks go with the first collection or the second.
func returnMemory() {
	runtime.GC()
	debug.FreeOSMemory()
}

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
