package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// option is one option: what the usage text says about it and what it does.
type option struct {
	name  string // long name, without dashes
	value string // what its value is called; empty for a switch
	group group
	help  string
	// def is the default as it is typed; empty if there is none to show.
	def func(c *Config) string
	set func(d *draft, value string) error
}

// written returns the option as it is to be written: "--socket=SPEC".
func (o *option) written() string {
	if o.value == "" {
		return "--" + o.name
	}
	return "--" + o.name + "=" + o.value
}

// shownDefault returns the default as it is typed, empty if there is none to show.
func (o *option) shownDefault(c *Config) string {
	if o.def == nil {
		return ""
	}
	return o.def(c)
}

// group is a heading of the usage text.
type group string

// The groups, in the order of the usage text.
const (
	groupSockets  group = "Sockets"
	groupScanning group = "Scanning"
	groupFailures group = "Failures"
	groupLimits   group = "Limits"
	groupService  group = "Service"
	groupLogging  group = "Logging"
)

var groups = []group{groupSockets, groupScanning, groupFailures, groupLimits, groupService, groupLogging}

// options are all options by their long names, in the order of the usage text.
// Which letters they have depends on the name of the program.
var options = []option{
	{
		name: "socket", value: "SPEC", group: groupSockets,
		help: "where the MTA reaches us",
		def:  func(c *Config) string { return c.Socket.String() },
		set: func(d *draft, v string) (err error) {
			d.Socket, err = d.socket(v, roleListen)
			return err
		},
	},
	{
		name: "amavisd-socket", value: "SPEC", group: groupSockets,
		help: "where we reach amavisd; if it is given several times, the least busy one is asked, and the next if that does not answer",
		def:  func(c *Config) string { return c.Amavisd[0].String() },
		set: func(d *draft, v string) error {
			s, err := d.socket(v, roleConnect)
			if err != nil {
				return err
			}
			d.amavisd = append(d.amavisd, s)
			return nil
		},
	},
	{
		name: "group", value: "GROUP", group: groupSockets,
		help: "give a local socket to this group, in which the MTA must be (usually smmsp)",
		set: func(d *draft, v string) (err error) {
			d.socketGroup, err = parseAccount(v, "group")
			return err
		},
	},
	{
		name: "socket-mode", value: "MODE", group: groupSockets,
		help: "octal mode of a local socket",
		def:  func(c *Config) string { return fmt.Sprintf("%04o", c.SocketMode) },
		set: func(d *draft, v string) (err error) {
			d.SocketMode, err = parseMode(v)
			return err
		},
	},
	{
		name: "socket-owner", value: "USER[:GROUP]", group: groupSockets,
		help: "give a local socket to this user and group",
		set:  (*draft).setSocketOwner,
	},
	{
		name: "backlog", value: "N", group: groupSockets,
		help: "connections that may wait to be accepted; 0: as many as the system allows",
		def:  func(c *Config) string { return strconv.Itoa(c.Backlog) },
		set:  setCount("backlog", maxBacklog, func(d *draft) *int { return &d.Backlog }),
	},
	{
		name: "work-dir", value: "DIR", group: groupScanning,
		help: "messages are spooled in DIR/milter; DIR must be amavisd's $TEMPBASE or $MYHOME, or below",
		def:  func(c *Config) string { return c.WorkDir },
		set: func(d *draft, v string) (err error) {
			d.WorkDir, err = parsePath(v)
			return err
		},
	},
	{
		name: "max-conns", value: "N", group: groupScanning,
		help: "messages scanned at once, best amavisd's $max_servers; 0: no limit",
		def:  func(c *Config) string { return strconv.Itoa(c.MaxConns) },
		set:  setCount("max-conns", maxConns, func(d *draft) *int { return &d.MaxConns }),
	},
	{
		name: "max-wait", value: "TIME", group: groupScanning,
		help: "how long a message waits for its turn; 0: not at all",
		def:  func(c *Config) string { return seconds(c.MaxWait) },
		set:  setTime("max-wait", 0, func(c *Config) *time.Duration { return &c.MaxWait }),
	},
	{
		name: "amavisd-timeout", value: "TIME", group: groupScanning,
		help: "how long amavisd may take for a message; 0: up to the deadline",
		def:  func(c *Config) string { return seconds(c.AmavisdTimeout) },
		set:  setTime("amavisd-timeout", 0, func(c *Config) *time.Duration { return &c.AmavisdTimeout }),
	},
	{
		name: "deadline", value: "TIME", group: groupScanning,
		help: "bounds waiting, retrying and scanning together; at least 1, and less than the MTA's own (sendmail: E=)",
		def:  func(c *Config) string { return seconds(c.Deadline) },
		set:  setTime("deadline", time.Second, func(c *Config) *time.Duration { return &c.Deadline }),
	},
	{
		name: "timeout", value: "TIME", group: groupScanning,
		help: "how long the MTA may be silent between two commands; at least 1",
		def:  func(c *Config) string { return seconds(c.Timeout) },
		set:  setTime("timeout", time.Second, func(c *Config) *time.Duration { return &c.Timeout }),
	},
	{
		name: "x-header", value: "'NAME: VALUE'", group: groupScanning,
		help: "header field that marks scanned mail",
		def:  func(c *Config) string { return c.XHeader.String() },
		set: func(d *draft, v string) (err error) {
			d.XHeader, err = parseHeader(v, d.dialect)
			return err
		},
	},
	{
		name: "no-x-header", group: groupScanning,
		help: "no such header field",
		set:  setSwitch(func(d *draft) *bool { return &d.noXHeader }),
	},
	{
		name: "daemon-policy-bank", group: groupScanning,
		help: "ask for a policy bank with the name of the MTA's listener ({daemon_name})",
		set:  setSwitch(func(d *draft) *bool { return &d.DaemonPolicyBank }),
	},
	{
		name: "policy-bank", value: "[MATCH=]NAME", group: groupScanning,
		help: "ask for this policy bank, for every message or for those that match; may be repeated, a later one overrides. " +
			"MATCH: a network as in 192.0.2.0/24, auth, tls, daemon:NAME, local",
		set: func(d *draft, v string) error {
			bank, err := parsePolicyBank(v)
			if err == nil {
				d.PolicyBanks = append(d.PolicyBanks, bank)
			}
			return err
		},
	},
	{
		name: "skip", value: "MATCH", group: groupScanning,
		help: "let what matches pass unscanned and marked; may be repeated. MATCH as above, or 'size>BYTES'",
		set: func(d *draft, v string) error {
			m, err := parseMatch(v, forSkip)
			if err == nil {
				d.Skips = append(d.Skips, m)
			}
			return err
		},
	},
	{
		name: "delivery-care-of", value: "WHO", group: groupScanning,
		help: "client: the MTA delivers what passes; server: amavisd does",
		def:  func(c *Config) string { return c.DeliveryCareOf },
		set: func(d *draft, v string) (err error) {
			d.DeliveryCareOf, err = oneOf(v, "client", "server")
			return err
		},
	},
	{
		name: "retry-time", value: "TIME", group: groupFailures,
		help: "how long amavisd is tried again while it does not answer; 0: each socket once",
		def:  func(c *Config) string { return seconds(c.RetryTime) },
		set:  setTime("retry-time", 0, func(c *Config) *time.Duration { return &c.RetryTime }),
	},
	{
		name: "on-failure", value: "[CAUSE=]ACTION", group: groupFailures,
		help: "what becomes of mail that cannot be scanned; may be repeated. " +
			"Causes: unavailable, busy, timeout, malformed (without a cause: these four), spool. " +
			"Actions: tempfail, accept, reject, quarantine",
		def: func(*Config) string { return string(ActionTempFail) },
		set: func(d *draft, v string) error {
			p, err := parsePolicy(v)
			if err == nil {
				d.policies = append(d.policies, p)
			}
			return err
		},
	},
	{
		name: "pass-on-failure", group: groupFailures,
		help: "let it pass, marked as unscanned: --on-failure accept",
		set:  setSwitch(func(d *draft) *bool { return &d.pass }),
	},
	{
		name: "max-sessions", value: "N", group: groupLimits,
		help: "connections of MTAs; who comes later is told 451 until one has ended; 0: no limit",
		def:  func(c *Config) string { return strconv.Itoa(c.MaxSessions) },
		set:  setCount("max-sessions", maxSessions, func(d *draft) *int { return &d.MaxSessions }),
	},
	{
		name: "max-sessions-per-address", value: "N", group: groupLimits,
		help: "those from one address, on inet sockets; 0: no limit",
		def:  func(c *Config) string { return strconv.Itoa(c.MaxSessionsPerAddress) },
		set:  setCount("max-sessions-per-address", maxSessions, func(d *draft) *int { return &d.MaxSessionsPerAddress }),
	},
	{
		name: "max-spool", value: "BYTES", group: groupLimits,
		help: "of all mail files together; beyond it mail is told 452; 0: no limit",
		def:  func(c *Config) string { return byteCount(c.MaxSpool) },
		set:  setBytes("max-spool", func(c *Config) *int64 { return &c.MaxSpool }),
	},
	{
		name: "min-free", value: "BYTES", group: groupLimits,
		help: "left free on the spool's file system; mail is told 452 rather than that; 0: the disk may fill up",
		def:  func(c *Config) string { return byteCount(c.MinFree) },
		set:  setBytes("min-free", func(c *Config) *int64 { return &c.MinFree }),
	},
	{
		name: "daemonize", group: groupService,
		help: "detach and return once mail is served (the default)",
		set:  setSwitch(func(d *draft) *bool { return &d.daemonize }),
	},
	{
		name: "foreground", group: groupService,
		help: "do not detach",
		set:  setSwitch(func(d *draft) *bool { return &d.Foreground }),
	},
	{
		name: "user", value: "USER", group: groupService,
		help: "account to run as; required when started by root",
		set: func(d *draft, v string) (err error) {
			d.User, err = parseAccount(v, "user")
			return err
		},
	},
	{
		name: "pid-file", value: "FILE", group: groupService,
		help: "write the process id to FILE",
		def:  func(c *Config) string { return c.PIDFile },
		set: func(d *draft, v string) (err error) {
			d.PIDFile, err = parsePath(v)
			return err
		},
	},
	{
		name: "help", group: groupService,
		help: "print this text and exit",
		set:  setSwitch(func(d *draft) *bool { return &d.Help }),
	},
	{
		name: "version", group: groupService,
		help: "print the version and exit",
		set:  setSwitch(func(d *draft) *bool { return &d.Version }),
	},
	{
		name: "verbose", group: groupLogging,
		help: "log everything, not only one line a message (once is enough)",
		set:  setSwitch(func(d *draft) *bool { return &d.verbose }),
	},
	{
		name: "debug", group: groupLogging,
		help: "log everything to stderr and do not detach",
		set:  setSwitch(func(d *draft) *bool { return &d.debug }),
	},
	{
		name: "debug-level", value: "N", group: groupLogging,
		help: "0: one line a message; 1 to 9: log everything",
		def:  func(*Config) string { return "0" },
		set:  setCount("debug-level", maxDebugLevel, func(d *draft) *int { return &d.debugLevel }),
	},
	{
		name: "log-target", value: "TARGET", group: groupLogging,
		help: "syslog or stderr; without it, stderr in the foreground",
		def:  func(*Config) string { return string(TargetSyslog) },
		set: func(d *draft, v string) error {
			word, err := oneOf(v, string(TargetSyslog), string(TargetStderr))
			d.LogTarget = LogTarget(word)
			return err
		},
	},
}

// optionNamed returns the option of a long name, nil if there is none.
func optionNamed(name string) *option {
	for i := range options {
		if options[i].name == name {
			return &options[i]
		}
	}
	return nil
}

func setSwitch(field func(d *draft) *bool) func(*draft, string) error {
	return func(d *draft, value string) error {
		if value != noValue {
			return fmt.Errorf("takes no value: leave out %q", "="+value)
		}
		*field(d) = true
		return nil
	}
}

// setCount sets a number. One above the highest means the highest: an old command
// line shall start the program, and no site can tell the two apart.
func setCount(name string, most int, field func(d *draft) *int) func(*draft, string) error {
	return func(d *draft, value string) error {
		n, err := parseCount(value, most)
		if err != nil {
			return err
		}
		if n > most {
			d.warn("%s: %s is taken for %d, the highest", d.dialect.names(name), value, most)
		}
		*field(d) = min(n, most)
		return nil
	}
}

// setTime sets a time. One above the longest means that one, as with setCount.
func setTime(name string, least time.Duration, field func(c *Config) *time.Duration) func(*draft, string) error {
	return func(d *draft, value string) error {
		t, err := parseTime(value, least)
		if err != nil {
			return err
		}
		if t > maxTime {
			d.warn("%s: %s is taken for %s, the longest", d.dialect.names(name), value, shortTime(maxTime))
		}
		*field(d.Config) = min(t, maxTime)
		return nil
	}
}

// setBytes sets a number of bytes. One above the highest means that one, as with
// setCount.
func setBytes(name string, field func(c *Config) *int64) func(*draft, string) error {
	return func(d *draft, value string) error {
		n, err := parseBytes(value)
		if err != nil {
			return err
		}
		if n > maxBytes {
			d.warn("%s: %s is taken for %s, the highest", d.dialect.names(name), value, byteCount(maxBytes))
		}
		*field(d.Config) = min(n, maxBytes)
		return nil
	}
}

// socket reads a socket and keeps the warning there may be.
func (d *draft) socket(spec string, role socketRole) (Socket, error) {
	s, warning, err := parseSocket(spec, role, d.env.LookupPort)
	if warning != "" {
		d.warn("%s", warning)
	}
	return s, err
}

func (d *draft) setSocketOwner(value string) error {
	user, group, found := strings.Cut(value, ":")
	if user == "" && group == "" || found && group == "" {
		return errors.New("user or group missing: write USER, USER:GROUP or :GROUP")
	}
	var err error
	if user != "" {
		if d.SocketUser, err = parseAccount(user, "user"); err != nil {
			return err
		}
	}
	if group != "" {
		d.ownerGroup, err = parseAccount(group, "group")
	}
	return err
}

// seconds writes the default of a time.
func seconds(t time.Duration) string { return strconv.Itoa(int(t / time.Second)) }
