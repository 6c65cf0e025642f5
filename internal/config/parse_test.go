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
	return parseAs(t, "amavis-milter", args...)
}

// parseAs parses a command line under a program name.
func parseAs(t *testing.T, program string, args ...string) *Config {
	t.Helper()
	c, err := Parse(append([]string{program}, args...), fakeEnv())
	if err != nil {
		t.Fatalf("%s %q: %v", program, args, err)
	}
	return c
}

// problems returns the lines and the exit code of a command line that must fail.
func problems(t *testing.T, env Env, args ...string) ([]string, int) {
	t.Helper()
	return problemsAs(t, "amavis-milter", env, args...)
}

func problemsAs(t *testing.T, program string, env Env, args ...string) ([]string, int) {
	t.Helper()
	c, err := Parse(append([]string{program}, args...), env)
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
		MaxSessions:    5000, MaxSessionsPerAddress: 4000, MinFree: 8 << 20,

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
		{[]string{"--policy-bank"}, "auth=ORIGINATING", func(c *Config) bool {
			return reflect.DeepEqual(c.PolicyBanks, []PolicyBank{{Match{Kind: MatchAuth}, "ORIGINATING"}})
		}},
		{[]string{"--skip"}, "size>1000000", func(c *Config) bool {
			return reflect.DeepEqual(c.Skips, []Match{{Kind: MatchSize, Bytes: 1e6}})
		}},
		{[]string{"--debug-level"}, "3", func(c *Config) bool {
			return c.LogLevel == slog.LevelDebug && !c.Foreground && c.LogTarget == TargetSyslog
		}},
		{[]string{"--max-sessions"}, "250", func(c *Config) bool { return c.MaxSessions == 250 }},
		{[]string{"--max-sessions-per-address"}, "0", func(c *Config) bool { return c.MaxSessionsPerAddress == 0 }},
		{[]string{"--max-spool"}, "2G", func(c *Config) bool { return c.MaxSpool == 2<<30 }},
		{[]string{"--min-free"}, "100m", func(c *Config) bool { return c.MinFree == 100<<20 }},
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
