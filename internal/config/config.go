// Package config turns the command line into a validated, typed [Config].
//
// It reports every mistake, not only the first, each in one line that says what
// to write instead. What it must know of the machine (who runs us, which groups
// there are) it asks an [Env], so that all of it can be tested without root.
//
// It opens, creates and changes nothing, and knows neither protocol.
package config

import (
	"io/fs"
	"log/slog"
	"time"
)

// runtimeDir holds both sockets and the spool unless options say otherwise. It is
// set at link time (make RUNTIME_DIR=/var/lib/amavis) with -ldflags
// "-X github.com/amavis-milter/amavis-milter/internal/config.runtimeDir=DIR".
var runtimeDir = "/var/amavis"

// Defaults that do not depend on the runtime directory.
const (
	defaultMaxWait        = 300 * time.Second
	defaultAmavisdTimeout = 300 * time.Second
	defaultDeadline       = 540 * time.Second // SMTP clients wait 10 minutes (RFC 5321 section 4.5.3.2.6)
	defaultRetryTime      = 30 * time.Second
	defaultTimeout        = 7210 * time.Second // libmilter's own (smfi_settimeout)
	defaultMaxSessions    = 5000               // no MTA has as many processes
	defaultMaxPerAddress  = 4000               // leaves room for others beside one that takes all it gets
	defaultMinFree        = 8 << 20            // bytes; amavisd unpacks beside us
	defaultSocketMode     = fs.FileMode(0o660)
	defaultXHeaderName    = "X-Virus-Scanned"
	defaultXHeaderValue   = "by amavis-milter"
)

// Config is a valid command line. Times are at least 0; what 0 means stands with
// each.
type Config struct {
	// dialect is that of the name that the command line was read under.
	dialect *dialect

	// Help and Version ask for the usage text or the version on standard output
	// and nothing else: if one of them is set, nothing else of the Config is
	// checked or meant to be used.
	Help, Version bool

	// Socket is where the MTA reaches us.
	Socket Socket
	// SocketUser and SocketGroup are to own a local socket, each a name or a
	// number; empty means that of the process.
	SocketUser, SocketGroup string
	// SocketMode is the mode of a local socket.
	SocketMode fs.FileMode
	// Backlog is how many connections may wait to be accepted; 0 means as many as
	// the system allows.
	Backlog int

	// Amavisd are the scanners in the order in which they are tried, at least one.
	Amavisd []Socket
	// WorkDir is the absolute path of the work directory.
	WorkDir string
	// MaxConns is how many messages are scanned at once; 0 means no limit.
	MaxConns int
	// MaxWait is how long a message waits for a slot; 0 means not at all.
	MaxWait time.Duration
	// AmavisdTimeout is how long one request to amavisd may take; 0 means that only
	// Deadline ends it.
	AmavisdTimeout time.Duration
	// Deadline bounds all that is done at the end of a message; at least 1 s.
	Deadline time.Duration
	// Timeout is how long the MTA may be silent between two commands; at least 1 s,
	// for 0 means "do not wait" to libmilter and "for ever" to others.
	Timeout time.Duration
	// RetryTime is how long a scanner that does not answer is tried again; 0 means
	// that each scanner is tried once.
	RetryTime time.Duration

	// MaxSessions is how many connections of MTAs there may be, and
	// MaxSessionsPerAddress how many of them from one IP address; 0 means no limit.
	MaxSessions, MaxSessionsPerAddress int
	// MaxSpool is how many bytes all mail files may have together; 0 means no limit.
	MaxSpool int64
	// MinFree is how many bytes are left free on the spool's file system; 0 means that
	// it may fill up.
	MinFree int64

	// XHeader marks scanned messages; the zero Header means none.
	XHeader Header
	// DaemonPolicyBank asks for the name of the MTA's listener as a policy bank.
	DaemonPolicyBank bool
	// PolicyBanks are asked for in this order, after those that the program asks for
	// by itself; Match is never of kind MatchSize.
	PolicyBanks []PolicyBank
	// Skips say which messages pass unscanned; none is of kind MatchAll.
	Skips []Match
	// DeliveryCareOf is "client" or "server" (README.protocol "delivery_care_of").
	DeliveryCareOf string
	// OnFailure holds the action for each cause in [Causes].
	OnFailure map[Cause]Action

	// Foreground says that the process is not to detach.
	Foreground bool
	// User is the account to run as, a name or a number; empty means no change.
	User string
	// PIDFile is an absolute path; empty means none.
	PIDFile string
	// PIDFileOptional says that nobody has asked for PIDFile: that it cannot be
	// written is worth a warning, but no reason not to serve.
	PIDFileOptional bool

	// LogLevel is the least level that is logged.
	LogLevel slog.Level
	// LogTarget is where the log goes.
	LogTarget LogTarget

	// Warnings are what is legal but probably not meant, one line each, to be
	// logged once there is a log.
	Warnings []string
}

// Header is one header field.
type Header struct{ Name, Value string }

// String returns the field as it is typed, "none" for the zero Header.
func (h Header) String() string {
	if h == (Header{}) {
		return "none"
	}
	return h.Name + ": " + h.Value
}

// LogTarget is where the log goes.
type LogTarget string

// The log targets. TargetDefault never appears in a Config.
const (
	TargetDefault LogTarget = ""
	TargetSyslog  LogTarget = "syslog"
	TargetStderr  LogTarget = "stderr"
)

// Program returns the name that the command line was read under: amavis-milter or
// amavisd-milter. It is that of the log and of all messages.
func (c *Config) Program() string { return c.dialect.program }

// defaults returns the Config of amavis-milter without options, before checks.
func defaults() *Config {
	return &Config{
		Socket:         localSocket(runtimeDir + "/amavis-milter.sock"),
		SocketMode:     defaultSocketMode,
		Amavisd:        []Socket{localSocket(runtimeDir + "/amavisd.sock")},
		WorkDir:        runtimeDir,
		MaxWait:        defaultMaxWait,
		AmavisdTimeout: defaultAmavisdTimeout,
		Deadline:       defaultDeadline,
		Timeout:        defaultTimeout,
		RetryTime:      defaultRetryTime,
		MaxSessions:    defaultMaxSessions,
		MinFree:        defaultMinFree,

		MaxSessionsPerAddress: defaultMaxPerAddress,

		XHeader:        Header{defaultXHeaderName, defaultXHeaderValue},
		DeliveryCareOf: "client",
		LogLevel:       slog.LevelInfo,
	}
}

// Defaults of amavisd-milter: those of Debian's, which its init script relies on.
// They are where that program had them, whatever the runtime directory is.
const (
	amavisdMilterSocket  = "/var/lib/amavis/amavisd-milter.sock"
	amavisdMilterScanner = "/var/lib/amavis/amavisd.sock"
	amavisdMilterWorkDir = "/var/lib/amavis/tmp"
	amavisdMilterPIDFile = "/var/run/amavis/amavisd-milter.pid"
	amavisdMilterTimeout = 600 * time.Second // of the MTA and of amavisd
)

// amavisdMilterDefaults returns the Config of amavisd-milter without options, before
// checks. That program has no X-header, and no letter to turn one off.
func amavisdMilterDefaults() *Config {
	c := defaults()
	c.Socket = localSocket(amavisdMilterSocket)
	c.Amavisd = []Socket{localSocket(amavisdMilterScanner)}
	c.WorkDir = amavisdMilterWorkDir
	c.PIDFile = amavisdMilterPIDFile
	c.Timeout, c.AmavisdTimeout = amavisdMilterTimeout, amavisdMilterTimeout
	c.XHeader = Header{}
	return c
}

// Parse reads a command line, argv[0] first: the last component of that says which
// program's letters and defaults hold. The error, if any, is an [*Error] with every
// mistake. An option that takes one value and is given twice has its last value, as init
// scripts expect that put site settings and their own into one line.
func Parse(argv []string, env Env) (*Config, error) {
	dialect := dialectOf(argv)
	var args []string
	if len(argv) > 0 {
		args = argv[1:]
	}
	d := &draft{Config: dialect.defaults(), env: env, given: map[string]bool{}, broken: map[string]bool{}}
	d.dialect = dialect

	for _, a := range d.scan(args) {
		d.given[a.option.name] = true
		if err := a.option.set(d, a.value); err != nil {
			d.misuse("%s: %v", a.shown, err)
			d.broken[a.option.name] = true
		}
	}
	if d.Help || d.Version {
		return &Config{dialect: dialect, Help: d.Help, Version: !d.Help}, nil
	}
	d.combine()
	d.checkMachine()
	if len(d.problems) > 0 {
		return nil, &Error{Problems: d.problems}
	}
	return d.Config, nil
}

// draft is a Config while it is being read: what was given, and what was wrong.
type draft struct {
	*Config
	env      Env
	given    map[string]bool // long names of the options that were given
	broken   map[string]bool // of those, the ones whose value was refused
	problems []Problem

	daemonize, debug, verbose, noXHeader, pass bool
	debugLevel                                 int
	socketGroup, ownerGroup                    string   // from -g and from --socket-owner
	amavisd                                    []Socket // from -S
	policies                                   []policy // from --on-failure
}
