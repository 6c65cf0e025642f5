package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const amavisUID = 120

// fakeEnv is a machine with the accounts root, amavis and smmsp, the groups amavis
// and smmsp, the service "milter", and every directory; we run as amavis.
func fakeEnv() Env {
	uids := map[string]string{"root": "0", "amavis": "120", "smmsp": "130"}
	groups := map[string]bool{"amavis": true, "smmsp": true}
	directory, _ := os.Stat("/")
	return Env{
		Euid: amavisUID,
		LookupUser: func(name string) (*user.User, error) {
			if uid, ok := uids[name]; ok {
				return &user.User{Uid: uid, Username: name}, nil
			}
			return nil, user.UnknownUserError(name)
		},
		LookupGroup: func(name string) (*user.Group, error) {
			if groups[name] {
				return &user.Group{Name: name}, nil
			}
			return nil, user.UnknownGroupError(name)
		},
		LookupPort: func(_, service string) (int, error) {
			if service == "milter" {
				return 8899, nil
			}
			return 0, errors.New("unknown port")
		},
		Stat: func(path string) (fs.FileInfo, error) {
			if filepath.Ext(path) != "" {
				return nil, fs.ErrNotExist
			}
			return directory, nil
		},
		EvalSymlinks: func(path string) (string, error) {
			if filepath.Ext(path) != "" {
				return "", fs.ErrNotExist
			}
			return filepath.Clean(path), nil
		},
	}
}

func parse(t *testing.T, args ...string) *Config {
	t.Helper()
	c, err := Parse(append([]string{"amavis-milter"}, args...), fakeEnv())
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return c
}

// problems returns the lines and the exit code of a command line that must fail.
func problems(t *testing.T, env Env, args ...string) ([]string, int) {
	t.Helper()
	c, err := Parse(append([]string{"amavis-milter"}, args...), env)
	var e *Error
	if !errors.As(err, &e) || c != nil {
		t.Fatalf("%q: got %+v, %v, want an *Error", args, c, err)
	}
	return strings.Split(e.Error(), "\n"), e.ExitCode()
}

func TestDefaults(t *testing.T) {
	got := parse(t)
	want := &Config{
		dialect:        amavisMilter,
		Socket:         Socket{"unix", "/var/amavis/amavis-milter.sock"},
		SocketMode:     0o660,
		Amavisd:        []Socket{{"unix", "/var/amavis/amavisd.sock"}},
		WorkDir:        "/var/amavis",
		MaxConns:       0,
		MaxWait:        300 * time.Second,
		AmavisdTimeout: 300 * time.Second,
		Deadline:       540 * time.Second,
		Timeout:        7210 * time.Second,
		RetryTime:      30 * time.Second,
		XHeader:        Header{"X-Virus-Scanned", "by amavis-milter"},
		DeliveryCareOf: "client",
		OnFailure: map[Cause]Action{"unavailable": "tempfail", "busy": "tempfail", "timeout": "tempfail",
			"malformed": "tempfail", "spool": "tempfail"},
		LogLevel:  slog.LevelInfo,
		LogTarget: TargetSyslog,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestRuntimeDirMovesDefaults(t *testing.T) {
	defer func(old string) { runtimeDir = old }(runtimeDir)
	runtimeDir = "/var/lib/amavis"
	c := parse(t)
	if c.Socket.Address != "/var/lib/amavis/amavis-milter.sock" || c.Amavisd[0].Address != "/var/lib/amavis/amavisd.sock" ||
		c.WorkDir != "/var/lib/amavis" {
		t.Errorf("got %+v", c)
	}
	if text := c.UsageText(); strings.Contains(text, "/var/amavis") {
		t.Errorf("the usage text has the old directory:\n%s", text)
	}
}

// TestEveryOption gives each option under every one of its names.
func TestEveryOption(t *testing.T) {
	tests := []struct {
		names []string
		value string // empty for a switch
		want  func(c *Config) bool
	}{
		{[]string{"-p", "-s", "--socket"}, "inet:milter@127.0.0.1", func(c *Config) bool { return c.Socket == Socket{"tcp4", "127.0.0.1:8899"} }},
		{[]string{"-S", "--amavisd-socket"}, "/run/a.sock", func(c *Config) bool {
			return reflect.DeepEqual(c.Amavisd, []Socket{{"unix", "/run/a.sock"}})
		}},
		{[]string{"-w", "--work-dir"}, "/srv/amavis", func(c *Config) bool { return c.WorkDir == "/srv/amavis" }},
		{[]string{"-g", "--group"}, "smmsp", func(c *Config) bool { return c.SocketGroup == "smmsp" }},
		{[]string{"-x", "--no-x-header"}, "", func(c *Config) bool { return c.XHeader == Header{} }},
		{[]string{"-v", "--verbose", "-vv", "-vvvv", "-vvvvvvv"}, "", func(c *Config) bool {
			return c.LogLevel == slog.LevelDebug && !c.Foreground && c.LogTarget == TargetSyslog
		}},
		{[]string{"-d", "--debug", "-dv", "-df"}, "", func(c *Config) bool {
			return c.LogLevel == slog.LevelDebug && c.Foreground && c.LogTarget == TargetStderr
		}},
		{[]string{"-D", "--daemonize"}, "", func(c *Config) bool { return !c.Foreground }},
		{[]string{"-f", "--foreground"}, "", func(c *Config) bool {
			return c.Foreground && c.LogTarget == TargetStderr && c.LogLevel == slog.LevelInfo
		}},
		{[]string{"-h", "--help", "-vh"}, "", func(c *Config) bool { return c.Help }},
		{[]string{"--version"}, "", func(c *Config) bool { return c.Version }},
		{[]string{"-m", "--max-conns"}, "4", func(c *Config) bool { return c.MaxConns == 4 }},
		{[]string{"-M", "--max-wait"}, "90s", func(c *Config) bool { return c.MaxWait == 90*time.Second }},
		{[]string{"--retry-time"}, "0", func(c *Config) bool { return c.RetryTime == 0 }},
		{[]string{"--deadline"}, "9m", func(c *Config) bool { return c.Deadline == 9*time.Minute }},
		{[]string{"-t", "--timeout"}, "600", func(c *Config) bool { return c.Timeout == 600*time.Second }},
		{[]string{"-T", "--amavisd-timeout"}, "1m30s", func(c *Config) bool { return c.AmavisdTimeout == 90*time.Second }},
		{[]string{"-q", "--backlog"}, "100", func(c *Config) bool { return c.Backlog == 100 }},
		{[]string{"-P", "--pass-on-failure"}, "", func(c *Config) bool {
			return c.OnFailure[CauseMalformed] == ActionAccept && c.OnFailure[CauseSpool] == ActionTempFail
		}},
		{[]string{"-B", "--daemon-policy-bank"}, "", func(c *Config) bool { return c.DaemonPolicyBank }},
		{[]string{"--delivery-care-of"}, "server", func(c *Config) bool { return c.DeliveryCareOf == "server" }},
		{[]string{"--pid-file"}, "/run/amavis.pid", func(c *Config) bool { return c.PIDFile == "/run/amavis.pid" }},
		{[]string{"--socket-mode"}, "0600", func(c *Config) bool { return c.SocketMode == 0o600 }},
		{[]string{"--socket-owner"}, "amavis:smmsp", func(c *Config) bool { return c.SocketUser == "amavis" && c.SocketGroup == "smmsp" }},
		{[]string{"--user"}, "amavis", func(c *Config) bool { return c.User == "amavis" }},
		{[]string{"--x-header"}, "X-Scanned: by us: all", func(c *Config) bool { return c.XHeader == Header{"X-Scanned", "by us: all"} }},
		{[]string{"--on-failure"}, "busy=quarantine", func(c *Config) bool { return c.OnFailure[CauseBusy] == ActionQuarantine }},
		{[]string{"--log-target"}, "syslog", func(c *Config) bool { return c.LogTarget == TargetSyslog }},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		for _, name := range tt.names {
			seen[strings.TrimPrefix(name, "--")] = true
			forms := [][]string{{name}}
			switch {
			case tt.value == "":
			case strings.HasPrefix(name, "--"):
				forms = [][]string{{name, tt.value}, {name + "=" + tt.value}}
			default:
				forms = [][]string{{name, tt.value}, {name + tt.value}, {name + "=" + tt.value}, {"-B" + name[1:], tt.value}}
			}
			for _, args := range forms {
				if c := parse(t, args...); !tt.want(c) {
					t.Errorf("%q: got %+v", args, c)
				}
			}
		}
	}
	for _, o := range options {
		if !seen[o.name] {
			t.Errorf("--%s is not in this test", o.name)
		}
	}
}

// TestEveryMistakeAtOnce has one mistake of each kind; all must be reported, each
// in a line of its own, in their order.
func TestEveryMistakeAtOnce(t *testing.T) {
	lines, code := problems(t, fakeEnv(), "--wrok-dir", "/x", "-p", "inet:host:25", "-Z", "--check", "-vY9", "stray", "-m", "-1",
		"--no-x-header=yes", "-group", "smmsp", "---x", "-test.v", "-", "--user", "nobody-here", "--", "-v", "-w")
	want := []string{
		`unknown option "--wrok-dir": did you mean --work-dir?`,
		`unknown option "-Z": --help lists the options`,
		`unknown option "--check": --help lists the options`,
		`unknown option "-Y" in "-vY9": --help lists the options`,
		`"-group": long options have two dashes: write --group`,
		`"---x" is not an option: --help lists the options`,
		`unknown option "-t" in "-test.v": --help lists the options`,
		`"-": there are no arguments but options: leave it out, or write the option before it`,
		`"-v": there are no arguments but options: leave it out, or write the option before it`,
		`"-w": there are no arguments but options: leave it out, or write the option before it`,
		`-p/--socket: "inet:host:25" is Postfix's order: write "inet:25@host"`,
		`-m/--max-conns: "-1": write a number from 0 to 100000`,
		`-x/--no-x-header: takes no value: leave out "=yes"`,
		`--user: there is no user "nobody-here": write one that getent passwd lists`,
	}
	if !reflect.DeepEqual(lines, want) || code != ExitUsage {
		t.Errorf("exit code %d, got\n%s\nwant\n%s", code, strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// TestMistakes are command lines with one mistake each, and a part of its line.
func TestMistakes(t *testing.T) {
	long := strings.Repeat("x", 1000)
	tests := []struct {
		args string // separated by '|'
		code int
		want string
	}{
		{"-p", 64, `-p/--socket: value missing: write --socket=SPEC`},
		{"-vs", 64, `-s/--socket: value missing: write --socket=SPEC`},
		{"--max-wait", 64, `-M/--max-wait: value missing: write --max-wait=TIME`},
		{"--user", 64, `--user: value missing: write --user=USER`},
		{"word", 64, `"word": there are no arguments`},
		{"", 64, `"": there are no arguments`},
		{"--no-such|value", 64, `unknown option "--no-such": --help`},
		{"--no-such=v", 64, `unknown option "--no-such": --help`},
		{"--metrics", 64, `unknown option "--metrics"`},
		{"--config=/x", 64, `unknown option "--config"`},
		{"--log-format=json", 64, `unknown option "--log-format"`},
		{"--policy-bank=X", 64, `unknown option "--policy-bank"`},
		{"--skip=X", 64, `unknown option "--skip"`},
		{"--min-free=1", 64, `unknown option "--min-free"`},
		{"--max-con=4", 64, `did you mean --max-conns?`},
		{"--amavisd-sock=/x", 64, `did you mean --amavisd-socket?`},
		{"--" + long, 64, `unknown option`},
		{"--=x", 64, `"--=x" is not an option`},
		{"--=ssocket=x", 64, `is not an option`},
		{"-ä", 64, `unknown option`},
		{"--foreground=true", 64, `-f/--foreground: takes no value: leave out "=true"`},
		{"-v=3", 64, `-v/--verbose: takes no value`},
		{"-m|4x", 64, `"4x": write a number from 0 to 100000`},
		{"-m|100001", 64, `write a number from 0 to 100000`},
		{"-m|+1", 64, `write a number`},
		{"-q|65536", 64, `write a number from 0 to 65535`},
		{"-M|soon", 64, `"soon" is not a time: write seconds, or a unit as in 90s, 10m, 1h`},
		{"-M|-1s", 64, `"-1s" is negative`},
		{"-M|1.5", 64, `is not a time`},
		{"-M|86401", 64, `"86401" is too long: write at most 24h`},
		{"-T|24h1ns", 64, `is too long: write at most 24h`},
		{"-t|99999999999999999999", 64, `is too long`},
		{"-t|9223372036854775807", 64, `is too long`},
		{"--deadline|0", 64, `--deadline: "0" is too short: write at least 1s`},
		{"--deadline|999ms", 64, `too short`},
		{"--socket-mode|0778", 64, `"0778" is no mode for a socket: write it in octal`},
		{"--socket-mode|1777", 64, `is no mode for a socket`},
		{"--socket-mode|0", 64, `write it in octal, 0001 to 0777`},
		{"-t|0", 64, `-t/--timeout: "0" is too short: write at least 1s`},
		{"--socket-mode|rw", 64, `is no mode for a socket`},
		{"--socket-owner|:", 64, `user or group missing: write USER, USER:GROUP or :GROUP`},
		{"--socket-owner|amavis:", 64, `user or group missing`},
		{"--socket-owner|amavis:b:c", 64, `"b:c" cannot be a group`},
		{"--user|", 64, `"" cannot be a user`},
		{"-g|two words", 64, `"two words" cannot be a group: write its name or number`},
		{"-w|amavis", 64, `"amavis" is not an absolute path: write /PATH`},
		{"--pid-file|", 64, `the path is missing`},
		{"--pid-file|/a\nb", 64, `"/a\nb" has characters that cannot be printed`},
		{"--pid-file|/" + strings.Repeat("y", 4095), 64, `the path has 4096 bytes: write one of at most 4095`},
		{"--x-header|X-Scanned", 64, `"X-Scanned" has no colon: write 'Name: value'`},
		{"--x-header|X Scanned: yes", 64, `"X Scanned" is not a field name`},
		{"--x-header|: yes", 64, `"" is not a field name`},
		{"--x-header|X-Ä: yes", 64, `is not a field name`},
		{"--x-header|X-Scanned: ", 64, `the value is empty`},
		{"--x-header|X-Scanned: a\r\nTo: x", 64, `is not printable ASCII`},
		{"--x-header|X-Scanned: ä", 64, `is not printable ASCII`},
		{"--x-header|X-S: " + strings.Repeat("x", 994), 64, `the field has 999 bytes, a line at most 998`},
		{"--x-header|From: x", 64, `From belongs to the message`},
		{"--x-header|Content-Type: x", 64, `belongs to the message`},
		{"--x-header|x-AMAVIS-milter-unscanned: x", 64, `belongs to the message or to the failure policy`},
		{"--delivery-care-of|me", 64, `"me": write client or server`},
		{"--log-target|file", 64, `"file": write syslog or stderr`},
		{"--on-failure|pass", 64, `"pass": unknown action "pass": write one of tempfail, accept, reject, quarantine`},
		{"--on-failure|disk=accept", 64, `"disk=accept": unknown cause "disk": write one of unavailable, busy, timeout, malformed, spool`},
		{"--on-failure|=accept", 64, `unknown cause ""`},
		{"--on-failure|busy=", 64, `unknown action ""`},
		{"--on-failure|panic=accept", 64, `unknown cause "panic"`},

		{"-f|-D", 64, `-D/--daemonize and -f/--foreground contradict each other`},
		{"-dD", 64, `-D/--daemonize and -d/--debug contradict each other`},
		{"-x|--x-header|X-A: b", 64, `-x/--no-x-header and --x-header contradict each other`},
		{"--log-target|stderr", 64, `a daemon has no stderr: write -f as well`},
		{"--log-target|stderr|-D", 64, `a daemon has no stderr`},
		{"-g|amavis|--socket-owner|amavis:smmsp", 64, `write the group once`},
		{"-f" + strings.Repeat("|-S|/a.sock", 65), 64, `-S/--amavisd-socket is given 65 times: write it at most 64 times`},
		{"-P|--on-failure|reject", 64, `both reject and accept for every cause`},
		{"--on-failure|busy=accept|--on-failure|busy=reject", 64, `both accept and reject for the cause busy`},

		{"-g|nosuch", 78, `-g/--group: there is no group "nosuch": write one that getent group lists`},
		{"--socket-owner|nosuch", 78, `--socket-owner: there is no user "nosuch"`},
		{"--socket-owner|:nosuch", 78, `--socket-owner: there is no group "nosuch"`},
		{"-g|4294967295", 78, `there is no group "4294967295"`},
		{"--user|root", 78, `--user root is root`},
		{"--user|0", 78, `--user 0 is root`},
		{"--user|smmsp", 78, `only root can become another user`},
		{"-w|/gone.dir", 78, `-w/--work-dir "/gone.dir" does not exist and is never created`},
		{"-p|/a/x.sock|-S|/a/x.sock", 78, `are the same socket: write amavisd's own after -S`},
		{"-p|local:/a/x.sock|-S|unix:/a/../a//x.sock", 78, `are the same socket`},
		{"-p|inet:99@0.0.0.0|-S|inet:99@127.0.0.9", 78, `are the same socket`},
		{"-p|inet:99@127.0.0.1|-S|inet:99@LocalHost", 78, `are the same socket`},
		{"-p|inet:99@Mail.example.org|-S|inet:99@mail.example.org", 78, `are the same socket`},
		{"-p|inet6:99@::|-S|inet:99@127.0.0.1", 78, `are the same socket`},
		{"-S|/a/b.sock|-S|/var/amavis/amavis-milter.sock", 78, `are the same socket`},
		{"-p|/run/x.sock|--pid-file|/run/x.sock", 78, `is a socket of ours or of amavisd`},
	}
	for _, tt := range tests {
		lines, code := problems(t, fakeEnv(), strings.Split(tt.args, "|")...)
		if len(lines) != 1 || !strings.Contains(lines[0], tt.want) || code != tt.code {
			t.Errorf("%.80q: exit code %d, got\n%s\nwant %d, …%s…", tt.args, code, strings.Join(lines, "\n"), tt.code, tt.want)
		}
	}
}

// TestLimits are the values at the very edge that must be taken.
func TestLimits(t *testing.T) {
	for _, args := range []string{
		"-m|100000", "-q|65535", "-M|86400", "-T|24h", "-t|1", "--deadline|1", "--deadline|1s", "--socket-mode|777", "--socket-mode|1",
		"--x-header|X-S: " + strings.Repeat("x", 993), "-g|4294967294",
		"-p|/" + strings.Repeat("x", maxSocketPath-1), "-w|/" + strings.Repeat("y", 4094),
		"-p|inet:1@h", "-p|inet:65535@h",
	} {
		parse(t, strings.Split(args, "|")...)
	}
}

func TestUsageExitCodeWins(t *testing.T) {
	lines, code := problems(t, fakeEnv(), "-g", "nosuch", "-m", "x")
	if len(lines) != 2 || code != ExitUsage {
		t.Errorf("exit code %d: %q", code, lines)
	}
}

func TestHelpWinsOverMistakes(t *testing.T) {
	if c := parse(t, "--frobnicate", "-p", "nonsense", "-h", "--version"); !c.Help || c.Version {
		t.Errorf("got %+v", c)
	}
}

func TestLastValueHolds(t *testing.T) {
	c := parse(t, "-p", "inet:1@h", "-S/a.sock", "-S", "/b.sock", "-p/c.sock", "-s", "/d.sock")
	if c.Socket.Address != "/d.sock" || len(c.Amavisd) != 2 || c.Amavisd[1].Address != "/b.sock" {
		t.Errorf("got %+v", c)
	}
}

func TestOnFailure(t *testing.T) {
	// Actions in the order of Causes: unavailable, busy, timeout, malformed, spool.
	tests := []struct{ args, want string }{
		{"-P", "accept accept accept accept tempfail"},
		{"--on-failure=accept", "accept accept accept accept tempfail"},
		{"-P --on-failure=accept", "accept accept accept accept tempfail"},
		{"--on-failure=reject", "reject reject reject reject tempfail"},
		{"--on-failure=spool=accept", "tempfail tempfail tempfail tempfail accept"},
		{"--on-failure=timeout=tempfail -P", "accept accept tempfail accept tempfail"},
		{"-P --on-failure=timeout=tempfail", "accept accept tempfail accept tempfail"},
		{"--on-failure=busy=accept --on-failure=malformed=quarantine --on-failure=unavailable=reject", "reject accept tempfail quarantine tempfail"},
		{"--on-failure=busy=accept --on-failure=busy=accept", "tempfail accept tempfail tempfail tempfail"},
	}
	for _, tt := range tests {
		c := parse(t, strings.Fields(tt.args)...)
		var got []string
		for _, cause := range Causes() {
			got = append(got, string(c.OnFailure[cause]))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct{ args, want string }{
		{"", ""},
		{"--deadline 200", ""}, // the defaults that it cuts were not asked for
		{"-T 600", "--amavisd-timeout 600s is cut to --deadline 540s"},
		{"-M 541", "--max-wait 541s is cut to --deadline 540s"},
		{"-M 540", ""},
		{"--retry-time 1h", "--retry-time 1h is cut to --deadline 540s|--retry-time 1h is cut to --max-wait 300s"},
		{"--retry-time 90 -M 60", "--retry-time 90s is cut to --max-wait 60s"},
		{"--socket-mode 0666", "--socket-mode 0666 lets every account of this host connect: --group and 0660 let only the MTA"},
		{"--socket-mode 0640 -g smmsp", "--socket-mode 0640 keeps the group smmsp from connecting: write 0660"},
		{"-p inet:25@h -g smmsp --socket-mode 0666", "--group has no effect: inet:25@h is not a local socket|--socket-mode has no effect: inet:25@h is not a local socket"},
		{"-S /a.sock -S /b.sock -S local:/a.sock", `-S/--amavisd-socket: "local:/a.sock" is given twice: the second is left out`},
		{"-p inet:25", `"inet:25" listens on every address of this host: write "inet:25@127.0.0.1" unless the MTA runs on another one`},
	}
	for _, tt := range tests {
		if got := strings.Join(parse(t, strings.Fields(tt.args)...).Warnings, "|"); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.args, got, tt.want)
		}
	}
}

func TestRoot(t *testing.T) {
	env := fakeEnv()
	env.Euid = 0
	lines, code := problems(t, env)
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "running as root") || code != ExitConfig {
		t.Errorf("exit code %d: %q", code, lines)
	}
	for _, user := range []string{"amavis", "4711"} {
		if c, err := Parse([]string{"", "--user", user}, env); err != nil || c.User != user {
			t.Errorf("%s: %+v, %v", user, c, err)
		}
	}
}

func TestLookupThatFails(t *testing.T) {
	env := fakeEnv()
	env.LookupUser = func(string) (*user.User, error) { return nil, errors.New("no answer\nfrom LDAP") }
	env.LookupGroup = func(string) (*user.Group, error) { return nil, errors.New("no answer\nfrom LDAP") }
	lines, code := problems(t, env, "--user", "amavis", "-g", "smmsp")
	want := []string{`--user: user "amavis" cannot be looked up: no answer from LDAP`, `-g/--group: group "smmsp" cannot be looked up: no answer from LDAP`}
	if !reflect.DeepEqual(lines, want) || code != ExitConfig {
		t.Errorf("exit code %d: %q", code, lines)
	}
}

func TestEmptyArgv(t *testing.T) {
	if _, err := Parse(nil, fakeEnv()); err != nil {
		t.Error(err)
	}
}
