// Package daemon is what makes a program a service: it detaches it from the
// caller who started it, opens its listening socket, writes its pid file, drops
// the privileges it was started with and turns signals into an orderly end.
//
// It knows nothing of mail. It is made for Linux.
//
// A program that uses all of it goes through these steps:
//
//	parent := daemon.FromParent()            // nil unless we are the detached child
//	if daemonize && parent == nil {
//		err := daemon.Detach()           // returns when the child serves or has failed
//		... print err, exit with daemon.ExitCode(err)
//	}
//	signals, stop := daemon.NotifySignals()  // early: from here on HUP does not kill
//	defer stop()
//	account, err := daemon.LookupAccount(user)
//	listener, err := daemon.Listen(config)   // as root: may give the socket away
//	pidFile, err := daemon.WritePIDFile(path, account)
//	err = daemon.DropPrivileges(account)
//	err = daemon.ForbidCoreDumps()
//	err = daemon.Starting(signals, log, step) // what may last: TERM ends it
//	err = parent.Ready()                     // or parent.Fail(err); both accept a nil parent
//	err = service.Run(signals)
//	listener.Close(); pidFile.Remove()
//
// Every error that an operator may see is one line that says what went wrong,
// with what, and what to do. Where a sysexits code fits, the error is (or wraps)
// an [Error]; [ExitCode] finds it.
package daemon
