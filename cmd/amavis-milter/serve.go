package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/internal/config"
	"github.com/amavis-milter/amavis-milter/internal/daemon"
	"github.com/amavis-milter/amavis-milter/internal/filter"
	"github.com/amavis-milter/amavis-milter/internal/logging"
	"github.com/amavis-milter/amavis-milter/internal/spool"
	"github.com/amavis-milter/amavis-milter/milter"
)

// verdictGrace is what a verdict may take beyond --deadline before it is given up: the
// filter keeps the deadline by itself unless the disk hangs.
const verdictGrace = 10 * time.Second

// serve is the life of the daemon: it takes its place in the system, serves until
// a signal ends it, and leaves nothing behind. parent is nil in the foreground.
func serve(cfg *config.Config, parent *daemon.Parent, stderr io.Writer) (err error) {
	signals, stopSignals := daemon.NotifySignals()
	defer stopSignals()
	log, closeLog := openLog(cfg, stderr)
	defer closeLog()
	defer func() {
		if err != nil && !errors.Is(err, daemon.ErrStopped) && cfg.LogTarget == config.TargetSyslog {
			log.Error("ended by an error", "error", err) // stderr gets it in any case
		}
	}()
	for _, warning := range cfg.Warnings {
		log.Warn(warning)
	}

	place, err := takePlace(cfg, log)
	if err != nil {
		return err
	}
	defer place.leave(log)
	var store *spool.Spool
	err = daemon.Starting(signals, log, func(ctx context.Context) (err error) {
		store, err = spool.Open(cfg.WorkDir, spool.Options{Log: log, Context: ctx, MinFree: cfg.MinFree, MaxBytes: cfg.MaxSpool})
		return err
	})
	if store != nil { // it may be open although a signal came
		defer closeSpool(store, log)
	}
	if err != nil {
		return err
	}
	mail := filter.New(filterOptions(cfg, store, log))
	defer mail.Close()
	server := milter.NewServer(mail, log, milterTimes(cfg))
	limits := milterLimits(cfg, log)
	server.Limit(limits)
	tendMemory(server)
	server.Prepare()
	// Before the spool is closed: whatever still waits for a verdict must not get
	// one because its mail file is gone.
	defer server.Close()

	logStart(cfg, log)
	log.Info("spool: " + store.Access().String()) // a scanner that cannot read it scans nothing
	if err := parent.Ready(); err != nil {
		return err
	}
	service := daemon.Service{
		Serve: func() error { return server.Serve(place.listener) },
		Drain: func(ctx context.Context) error {
			place.pidFile.Yield() // a successor may start while we finish
			return server.Shutdown(ctx)
		},
		Hangup: func() { log.Info("settings are read at start only: restart to change them", "signal", "HUP") },
		Log:    log,
	}
	return service.Run(signals)
}

// openLog returns the log and what closes it.
func openLog(cfg *config.Config, stderr io.Writer) (*slog.Logger, func()) {
	if cfg.LogTarget == config.TargetStderr {
		return slog.New(logging.NewStderr(stderr, cfg.LogLevel)), func() {}
	}
	syslog := logging.NewSyslog(cfg.Program(), os.Getpid(), cfg.LogLevel)
	return slog.New(syslog), func() { _ = syslog.Close() } // nothing could be done about it
}

// place is what we hold in the system while we live.
type place struct {
	listener *daemon.Listener
	pidFile  *daemon.PIDFile // nil if none is wanted
}

// takePlace listens and writes the pid file as the user who started us, and
// becomes the one to run as. The socket belongs to the latter, unless options say
// otherwise; the pid file does not, see daemon.WritePIDFile.
func takePlace(cfg *config.Config, log *slog.Logger) (p *place, err error) {
	listen := daemon.ListenConfig{
		Network: cfg.Socket.Network, Address: cfg.Socket.Address, Backlog: cfg.Backlog,
		Mode: cfg.SocketMode, OwnerUID: -1, GroupGID: -1,
	}
	var account *daemon.Account
	if cfg.User != "" {
		if account, err = daemon.LookupAccount(cfg.User); err != nil {
			return nil, err
		}
		if os.Geteuid() == 0 {
			// As if the user had started us: a socket of root's that a crash leaves
			// would keep the user from finding out that nobody listens on it.
			listen.OwnerUID, listen.GroupGID, listen.Account = account.UID, account.GID, account
		}
	}
	if cfg.SocketGroup != "" {
		if listen.GroupGID, err = daemon.LookupGID(cfg.SocketGroup); err != nil {
			return nil, err
		}
	}
	if cfg.SocketUser != "" {
		if listen.OwnerUID, err = daemon.LookupUID(cfg.SocketUser); err != nil {
			return nil, err
		}
	}
	p = &place{}
	if p.listener, err = daemon.Listen(listen); err != nil {
		return nil, err
	}
	if p.listener.Warning != "" {
		log.Warn(p.listener.Warning)
	}
	p.pidFile, err = writePIDFile(cfg, account, log)
	if err == nil && account != nil {
		err = daemon.DropPrivileges(account)
	}
	if err == nil {
		err = daemon.ForbidCoreDumps() // they would hold mail
	}
	if err != nil {
		return nil, errors.Join(err, p.give())
	}
	return p, nil
}

// writePIDFile writes the pid file, if there is to be one. One that nobody asked for
// is no reason not to serve: whoever runs us by hand, or beside another instance,
// need not know of it.
func writePIDFile(cfg *config.Config, account *daemon.Account, log *slog.Logger) (*daemon.PIDFile, error) {
	if cfg.PIDFile == "" {
		return nil, nil
	}
	file, err := daemon.WritePIDFile(cfg.PIDFile, account)
	if err != nil && cfg.PIDFileOptional {
		log.Warn("there is no pid file: init scripts will not find this process", "error", err)
		return nil, nil
	}
	if err == nil && file.Warning != "" {
		log.Warn(file.Warning)
	}
	return file, err
}

// give gives everything back.
func (p *place) give() error { return errors.Join(p.listener.Close(), p.pidFile.Remove()) }

func (p *place) leave(log *slog.Logger) {
	if err := p.give(); err != nil {
		log.Warn("something is left behind", "error", err)
	}
}

func closeSpool(store *spool.Spool, log *slog.Logger) {
	if err := store.Close(); err != nil {
		log.Error("spool directories are left behind; the next start removes them", "error", err)
	}
}

func filterOptions(cfg *config.Config, store *spool.Spool, log *slog.Logger) filter.Options {
	hostname, err := os.Hostname()
	if err != nil {
		log.Warn("this host has no name: the Received field will say localhost where the MTA does not tell its own", "error", err)
		hostname = "localhost"
	}
	scanners := make([]*ampdp.Client, len(cfg.Amavisd))
	for i, s := range cfg.Amavisd {
		scanners[i] = &ampdp.Client{Network: s.Network, Address: s.Address, Timeout: cfg.AmavisdTimeout}
	}
	onFailure := filter.OnFailure{}
	for cause, action := range cfg.OnFailure {
		onFailure[filter.Cause(cause)] = filter.Action(action)
	}
	var banks []filter.PolicyBank
	for _, b := range cfg.PolicyBanks {
		banks = append(banks, filter.PolicyBank{Match: filterMatch(b.Match), Name: b.Name})
	}
	var skips []filter.Match
	for _, m := range cfg.Skips {
		skips = append(skips, filterMatch(m))
	}
	return filter.Options{
		Spool: store, Scanners: scanners,
		MaxConns: cfg.MaxConns, MaxWait: cfg.MaxWait, RetryTime: cfg.RetryTime, Deadline: cfg.Deadline,
		OnFailure: onFailure, XHeader: filter.HeaderField(cfg.XHeader),
		DaemonPolicyBank: cfg.DaemonPolicyBank, PolicyBanks: banks, Skips: skips, DeliveryCareOf: cfg.DeliveryCareOf,
		Hostname: hostname, Log: log,
	}
}

// filterMatch is a match in the words of the filter, which are the same.
func filterMatch(m config.Match) filter.Match {
	return filter.Match{Kind: filter.MatchKind(m.Kind), Network: m.Network, DaemonName: m.DaemonName, Bytes: m.Bytes}
}

// logStart says who serves, where, by which rules and within which bounds.
func logStart(cfg *config.Config, log *slog.Logger) {
	attrs := []any{"version", config.Version(), "socket", cfg.Socket.String()}
	for _, s := range cfg.Amavisd {
		attrs = append(attrs, "amavisd", s.String())
	}
	for _, b := range cfg.PolicyBanks {
		attrs = append(attrs, "policy_bank", b.String())
	}
	for _, m := range cfg.Skips {
		attrs = append(attrs, "skip", m.String())
	}
	log.Info("serving", append(attrs, "work_dir", cfg.WorkDir, "max_conns", cfg.MaxConns, "max_wait", cfg.MaxWait,
		"amavisd_timeout", cfg.AmavisdTimeout, "deadline", cfg.Deadline, "retry_time", cfg.RetryTime,
		"max_sessions", cfg.MaxSessions, "max_sessions_per_address", cfg.MaxSessionsPerAddress, "max_spool", cfg.MaxSpool, "min_free", cfg.MinFree, "timeout", cfg.Timeout)...)
}
