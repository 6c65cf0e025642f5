package config

import (
	"io/fs"
	"reflect"
	"strings"
	"testing"
)

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
		`unknown option "-test.v": --help lists the options`,
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
		{"--min-free=", 64, `--min-free: "": write a number of bytes, or one with a unit as in 64K, 8M, 2G`},
		{"--min-free=-1", 64, `write a number of bytes`},
		{"--min-free=5%", 64, `write a number of bytes`},
		{"--max-spool=M", 64, `write a number of bytes`},
		{"--max-spool=1MM", 64, `write a number of bytes`},
		{"--max-spool=1.5G", 64, `write a number of bytes`},
		{"--max-sessions=many", 64, `--max-sessions: "many": write a number from 0 to 1000000`},
		{"--max-sessions-per-address=-1", 64, `write a number`},
		{"--max-con=4", 64, `did you mean --max-conns?`},
		{"--amavisd-sock=/x", 64, `did you mean --amavisd-socket?`},
		{"--" + long, 64, `unknown option`},
		{"--=x", 64, `"--=x" is not an option`},
		{"--=ssocket=x", 64, `is not an option`},
		{"-ä", 64, `unknown option`},
		{"--foreground=true", 64, `-f/--foreground: takes no value: leave out "=true"`},
		{"-v=3", 64, `-v/--verbose: takes no value`},
		{"-m|4x", 64, `"4x": write a number from 0 to 100000`},
		{"-m|+1", 64, `write a number`},
		{"-M|soon", 64, `"soon" is not a time: write seconds, or a unit as in 90s, 10m, 1h`},
		{"-M|-1s", 64, `"-1s" is negative`},
		{"-M|1.5", 64, `is not a time`},
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
		{"--debug-level|x", 64, `"x": write a number from 0 to 9`},
		{"--debug-level|-1", 64, `"-1": write a number from 0 to 9`},
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

// TestDefaultsAreNotBlamed: a value that was refused is not replaced by the default
// to complain about that as well.
func TestDefaultsAreNotBlamed(t *testing.T) {
	env := fakeEnv()
	env.Euid = 0
	env.Stat = func(string) (fs.FileInfo, error) { return nil, fs.ErrNotExist }
	for _, args := range []string{"-w amavis", "-w amavis --user a:b", "--user amavis -m x", "--user amavis -p x -S /var/amavis/amavis-milter.sock"} {
		lines, _ := problems(t, env, strings.Fields(args)...)
		for _, line := range lines {
			if strings.Contains(line, "/var/amavis") || strings.Contains(args, "--user") && strings.Contains(line, "root") {
				t.Errorf("%s: %s", args, line)
			}
		}
	}
	lines, _ := problems(t, env, "--user", "amavis", "-m", "x", "-w", "/gone")
	if len(lines) != 2 {
		t.Errorf("got %q", lines)
	}
}
