package config

import (
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestNames: the last component of argv[0] chooses the letters, and nothing else
// does.
func TestNames(t *testing.T) {
	for argv0, want := range map[string]string{
		"amavisd-milter":            "amavisd-milter",
		"/usr/sbin/amavisd-milter":  "amavisd-milter",
		"./amavisd-milter":          "amavisd-milter",
		"amavis-milter":             "amavis-milter",
		"/usr/sbin/amavis-milter":   "amavis-milter",
		"/opt/amavisd-milter/am":    "amavis-milter",
		"amavisd-milter.new":        "amavis-milter",
		"Amavisd-milter":            "amavis-milter",
		"-amavisd-milter":           "amavis-milter",
		"/usr/sbin/amavisd-milter/": "amavisd-milter",
		"":                          "amavis-milter",
	} {
		if got := Program([]string{argv0, "amavisd-milter"}); got != want {
			t.Errorf("Program of %q is %q, want %q", argv0, got, want)
		}
		if c := parseAs(t, argv0); c.Program() != want {
			t.Errorf("%q is read as %q, want %q", argv0, c.Program(), want)
		}
	}
	if Program(nil) != "amavis-milter" {
		t.Error("no argv[0]")
	}
}

// TestOldDefaults are those of Debian's amavisd-milter, wherever our own runtime
// directory is.
func TestOldDefaults(t *testing.T) {
	defer func(old string) { runtimeDir = old }(runtimeDir)
	runtimeDir = "/elsewhere"
	want := &Config{
		dialect:        amavisdMilter,
		Socket:         Socket{"unix", "/var/lib/amavis/amavisd-milter.sock"},
		SocketMode:     0o660,
		Amavisd:        []Socket{{"unix", "/var/lib/amavis/amavisd.sock"}},
		WorkDir:        "/var/lib/amavis/tmp",
		MaxConns:       0,
		MaxWait:        300 * time.Second,
		AmavisdTimeout: 600 * time.Second,
		Deadline:       540 * time.Second,
		Timeout:        600 * time.Second,
		RetryTime:      30 * time.Second,
		MaxSessions:    5000, MaxSessionsPerAddress: 4000, MinFree: 8 << 20,

		DeliveryCareOf:  "client",
		OnFailure:       parse(t).OnFailure,
		PIDFile:         "/var/run/amavis/amavisd-milter.pid",
		PIDFileOptional: true,
		LogLevel:        slog.LevelInfo,
		LogTarget:       TargetSyslog,
	}
	if got := parseAs(t, "amavisd-milter"); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestOldLetters: each letter of amavisd-milter means what it meant there.
func TestOldLetters(t *testing.T) {
	tests := []struct {
		args string
		want func(c *Config) bool
	}{
		{"-B", func(c *Config) bool { return c.DaemonPolicyBank }},
		{"-d 0", func(c *Config) bool { return c.LogLevel == slog.LevelInfo && !c.Foreground }},
		{"-d 1", func(c *Config) bool { return c.LogLevel == slog.LevelDebug && !c.Foreground }},
		{"-d9", func(c *Config) bool { return c.LogLevel == slog.LevelDebug && len(c.Warnings) == 0 }},
		{"-d 10", func(c *Config) bool { return c.LogLevel == slog.LevelDebug && len(c.Warnings) == 1 }},
		{"-d 99", func(c *Config) bool { return c.LogLevel == slog.LevelDebug && len(c.Warnings) == 1 }},
		{"-d 1 -d 0", func(c *Config) bool { return c.LogLevel == slog.LevelInfo }},
		{"-D server", func(c *Config) bool { return c.DeliveryCareOf == "server" && !c.Foreground }},
		{"-D server -D client", func(c *Config) bool { return c.DeliveryCareOf == "client" }},
		{"-f", func(c *Config) bool {
			return c.Foreground && c.LogTarget == TargetStderr && c.LogLevel == slog.LevelInfo && c.PIDFileOptional
		}},
		{"-h", func(c *Config) bool { return c.Help }},
		{"-m 4", func(c *Config) bool { return c.MaxConns == 4 }},
		{"-M 90", func(c *Config) bool { return c.MaxWait == 90*time.Second }},
		{"-p /run/x", func(c *Config) bool { return c.PIDFile == "/run/x" && !c.PIDFileOptional }},
		{"-p " + amavisdMilterPIDFile, func(c *Config) bool { return c.PIDFile == amavisdMilterPIDFile && !c.PIDFileOptional }},
		{"-P", func(c *Config) bool { return c.OnFailure[CauseBusy] == ActionAccept }},
		{"-q 7", func(c *Config) bool { return c.Backlog == 7 }},
		{"-s inet:60001@127.0.0.1", func(c *Config) bool { return c.Socket == Socket{"tcp4", "127.0.0.1:60001"} }},
		{"-s /run/x.sock", func(c *Config) bool { return c.Socket.Address == "/run/x.sock" }},
		{"-S unix:/run/a.sock", func(c *Config) bool { return c.Amavisd[0].Address == "/run/a.sock" }},
		{"-S inet:10024@127.0.0.1", func(c *Config) bool { return c.Amavisd[0] == Socket{"tcp4", "127.0.0.1:10024"} }},
		{"-t 60", func(c *Config) bool { return c.Timeout == time.Minute }},
		{"-T 60", func(c *Config) bool { return c.AmavisdTimeout == time.Minute }},
		{"-v", func(c *Config) bool { return c.Version }},
		{"-w /srv/x", func(c *Config) bool { return c.WorkDir == "/srv/x" }},
		{"-fBPd3", func(c *Config) bool {
			return c.Foreground && c.DaemonPolicyBank && c.LogLevel == slog.LevelDebug && c.OnFailure[CauseBusy] == ActionAccept
		}},
		{"-Bfv", func(c *Config) bool { return c.Version }},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		seen[tt.args[1:2]] = true
		if c := parseAs(t, "amavisd-milter", strings.Fields(tt.args)...); !tt.want(c) {
			t.Errorf("%s: got %+v", tt.args, c)
		}
	}
	const all = "BdDfhmMpPqsStTvw" // amavisd-milter(8)
	var letters string
	for _, l := range amavisdMilter.letters {
		letters += l
	}
	if len(letters) != len(all) {
		t.Errorf("%d letters, want %d", len(letters), len(all))
	}
	for _, l := range strings.Split(all, "") {
		if !seen[l] || !strings.Contains(letters, l) {
			t.Errorf("-%s is missing", l)
		}
	}
}

// TestLongOptionsAreTheSame: under either name, each long option does the same.
func TestLongOptionsAreTheSame(t *testing.T) {
	old := parseAs(t, "amavisd-milter", "--socket=/a.sock", "--amavisd-socket=/b.sock", "--work-dir=/", "--pid-file=/c.pid", "--x-header=X-A: b",
		"--timeout=9", "--amavisd-timeout=9", "--debug", "--group=smmsp", "--delivery-care-of=server", "--verbose", "--debug-level=1")
	ours := parseAs(t, "amavis-milter", "--socket=/a.sock", "--amavisd-socket=/b.sock", "--work-dir=/", "--pid-file=/c.pid", "--x-header=X-A: b",
		"--timeout=9", "--amavisd-timeout=9", "--debug", "--group=smmsp", "--delivery-care-of=server", "--verbose", "--debug-level=1")
	old.dialect = ours.dialect
	if !reflect.DeepEqual(old, ours) {
		t.Errorf("got  %+v\nwant %+v", old, ours)
	}
	if c := parseAs(t, "amavisd-milter", "--x-header", "X-A: b"); c.XHeader != (Header{"X-A", "b"}) {
		t.Errorf("--x-header: got %+v", c.XHeader)
	}
}

// TestOldMistakes: messages name the letters that hold under the old name.
func TestOldMistakes(t *testing.T) {
	tests := []struct {
		args string
		code int
		want string
	}{
		{"-g smmsp", 64, `unknown option "-g": it is a letter of amavis-milter: write --group`},
		{"-x", 64, `unknown option "-x": it is a letter of amavis-milter: write --no-x-header`},
		{"-fxB", 64, `unknown option "-x" in "-fxB": it is a letter of amavis-milter: write --no-x-header`},
		{"-Z", 64, `unknown option "-Z": --help lists the options`},
		{"-d", 64, `-d/--debug-level: value missing: write --debug-level=N`},
		{"-d x", 64, `-d/--debug-level: "x": write a number from 0 to 9`},
		{"-d -1", 64, `-d/--debug-level: "-1": write a number from 0 to 9`},
		{"-D me", 64, `-D/--delivery-care-of: "me": write client or server`},
		{"-p", 64, `-p/--pid-file: value missing: write --pid-file=FILE`},
		{"-p amavisd.pid", 64, `-p/--pid-file: "amavisd.pid" is not an absolute path: write /PATH`},
		{"-p inet:1@h", 64, `-p/--pid-file: "inet:1@h" is not an absolute path`},
		{"-s inet:h:25", 64, `-s/--socket: "inet:h:25" is Postfix's order`},
		{"-s /a.sock -S /a.sock", 78, `-s/--socket "local:/a.sock" and -S/--amavisd-socket "local:/a.sock" are the same socket: write amavisd's own after -S`},
		{"-s /a.sock -p /a.sock", 78, `-p/--pid-file "/a.sock" is a socket of ours`},
		{"-w /gone.dir", 78, `-w/--work-dir "/gone.dir" does not exist`},
		{"--daemonize -f", 64, `--daemonize and -f/--foreground contradict each other`},
		{"--daemonize --debug", 64, `--daemonize and --debug contradict each other`},
		{"--no-x-header --x-header X-A:b", 64, `--no-x-header and --x-header contradict each other: write one of them`},
		{"--x-header X-A:", 64, `or --no-x-header for no X-header`},
		{"--group amavis --socket-owner :smmsp", 64, `--group amavis and --socket-owner with group smmsp contradict`},
		{"--group nosuch", 78, `--group: there is no group "nosuch"`},
	}
	for _, tt := range tests {
		lines, code := problemsAs(t, "amavisd-milter", fakeEnv(), strings.Fields(tt.args)...)
		if len(lines) != 1 || !strings.HasPrefix(lines[0], tt.want) && !strings.HasSuffix(lines[0], tt.want) || code != tt.code {
			t.Errorf("%s: exit code %d, got\n%s\nwant %d, %s", tt.args, code, strings.Join(lines, "\n"), tt.code, tt.want)
		}
	}
	// And of no letter that means something else there.
	lines, _ := problems(t, fakeEnv(), "-D", "-f", "-s", "/a.sock", "-S", "/a.sock")
	for _, line := range lines {
		if !strings.HasPrefix(line, "-D/--daemonize") && !strings.HasPrefix(line, "-p/--socket") {
			t.Errorf("under our own name: %s", line)
		}
	}
}
