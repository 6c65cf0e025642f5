package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fuzzValues are values to write behind options, for each at least one that is right
// and one that is not.
var fuzzValues = []string{
	"", "0", "1", "9", "64", "300", "90s", "10m", "24h", "25h", "-1", "1e9", "0x10", "+5", " 5", "١", "99999999999999999999", "1.5s", "1ns", "1000000001h",
	"8M", "64k", "2G", "3T", "9999999T", "8MB", "M", "0660", "0777", "1000", "0", "08", "0o660",
	"local:/run/m.sock", "unix:/run/m", "/run/a", "LOCAL:/x", "local:x", "local:/", "local:" + strings.Repeat("/a", 54), "inet:8899@127.0.0.1", "inet:8899@localhost",
	"inet6:8899@[::1]", "inet6:8899@::", "inet:8899@0.0.0.0", "inet:8899", "inet6:8899", "inet:milter@h", "inet:nosuch@h", "inet:8899@::1", "inet6:1@127.0.0.1",
	"inet:0@h", "inet:65536@h", "inet:127.0.0.1:8899", "inet6:1@fe80::1%lo", "inet6:1@[fe80::1%]", "inet:1@-h", "tcp:1@h", "inet:@", "inet6:8899@::ffff:127.0.0.1",
	"/var/lib/amavis/tmp", "/var/amavis", "var", "/nosuch.dir", "/a\nb", "/a\u2028b", "/\xff", "amavis", "root", "0", "120", "4294967295", "nobody", "amavis:smmsp", ":smmsp", "amavis:", "a:b:c",
	"smmsp", "nosuch", "client", "server", "Client", "syslog", "stderr", "text", "json",
	"X-Virus-Scanned: by me", "X-A:b", "Subject: x", "X-A:", "no colon", "X A: b", "X-A: b\nX-C: d", "X-A: " + strings.Repeat("v", 995), "x-amavis-milter-unscanned: 1",
	"accept", "tempfail", "reject", "quarantine", "busy=accept", "spool=accept", "spool=", "=accept", "bust=accept", "busy=pass",
	"BANK", "auth=BANK", "tls=BANK", "192.0.2.0/24=BANK", "192.0.2.1/24=BANK", "daemon:MSA=BANK", "daemon:=BANK", "local=BANK", "size>1=BANK", "=BANK", "auth=", "A,B", "auth", "a=b=c",
	"192.0.2.0/24", "2001:db8::/32", "::/0", "0.0.0.0/0", "size>0", "size>1000000", "size>", "size>-1", "[192.0.2.1]", "fe80::1%eth0", "::ffff:192.0.2.0/120", "daemon:MSA", "local", "tls",
	"--", "-", "-x", "--user", "=", "\x1b[2J",
}

// maxFuzzOptions bounds the options of one command line.
const maxFuzzOptions = 40

// optionLine makes arguments of a program's bytes, five for each option: which, how it
// is written, its value, and what is changed in that.
func optionLine(dl *dialect, input []byte) (args []string) {
	for step := range slices.Chunk(input, 5) {
		if len(step) < 5 || len(args) > 2*maxFuzzOptions {
			break
		}
		o := &options[int(step[0])%len(options)]
		value := fuzzValues[int(step[2])%len(fuzzValues)]
		if at := int(step[3]) % (len(value) + 1); step[4] != 0 {
			value = value[:at] + string(step[4:5]) + value[at:]
		}
		letter := dl.short(o.name)
		switch step[1] % 7 {
		case 0, 1:
			args = append(args, "--"+o.name+"="+value)
		case 2:
			args = append(args, "--"+o.name, value)
		case 3:
			args = append(args, letter+value)
		case 4:
			args = append(args, letter, value)
		case 5:
			args = append(args, "--"+o.name)
		case 6: // several letters in one argument
			args = append(args, letter)
			if n := len(args); n > 1 && len(args[n-2]) > 1 && args[n-2][0] == '-' && args[n-2][1] != '-' {
				args = append(args[:n-2], args[n-2]+strings.TrimLeft(letter, "-"))
			}
		}
	}
	return args
}

// FuzzOptions makes command lines of real options, in every way in which they can be
// written, with values that are right, nearly right and wrong. What FuzzParse wants
// holds.
func FuzzOptions(f *testing.F) {
	for i := range options {
		for j := range fuzzValues {
			if (i+j)%29 == 0 {
				f.Add(byte(i), byte(0), []byte{byte(i), byte(i * j), byte(j), 0, 0})
			}
		}
	}
	f.Fuzz(func(t *testing.T, name, machine byte, input []byte) {
		program := fuzzNames[int(name)%len(fuzzNames)]
		checkParse(t, append([]string{program}, optionLine(dialectOf([]string{program}), input)...), oddEnv(machine))
	})
}

// checkConfig wants of a Config what those who read it take for granted.
func checkConfig(t *testing.T, argv []string, c *Config, env Env) {
	bad := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%q: %s", argv, fmt.Sprintf(format, args...))
	}
	if c.Program() != Program(argv) {
		bad("it is for %s", c.Program())
	}
	if c.Help || c.Version {
		return
	}
	checkSocket(bad, c.Socket, roleListen, env)
	for i, s := range c.Amavisd {
		checkSocket(bad, s, roleConnect, env)
		if slices.Contains(c.Amavisd[:i], s) || c.Socket == s {
			bad("%v is there twice", s)
		}
	}
	if len(c.Amavisd) == 0 || len(c.Amavisd) > maxScanners {
		bad("%d scanners", len(c.Amavisd))
	}
	for _, path := range []string{c.WorkDir, c.PIDFile} {
		if (path != "" || path == c.WorkDir) && checkPath(path, "") != nil {
			bad("path %q", path)
		}
	}
	if env.Euid == 0 && c.User == "" {
		bad("it would run as root")
	}
	checkNumbers(bad, c)
	checkWords(bad, c)
}

// checkSocket wants a socket that package net can use and that is shown as something
// that means the same.
func checkSocket(bad func(string, ...any), s Socket, role socketRole, env Env) {
	if s.IsLocal() {
		if checkPath(s.Address, "") != nil || len(s.Address) > maxSocketPath || strings.HasSuffix(s.Address, "/") {
			bad("socket %+v", s)
		}
	} else {
		host, port, err := net.SplitHostPort(s.Address)
		n, _ := strconv.Atoi(port)
		if err != nil || host == "" || n < 1 || n > 65535 || s.Network == "tcp" && role != roleListen || !slices.Contains([]string{"tcp", "tcp4", "tcp6"}, s.Network) {
			bad("socket %+v", s)
		}
	}
	if again, _, err := parseSocket(s.String(), role, env.LookupPort); err != nil || again != s {
		bad("%+v is shown as %q, which is %+v, %v", s, s.String(), again, err)
	}
}

// checkNumbers wants numbers within their bounds.
func checkNumbers(bad func(string, ...any), c *Config) {
	for name, d := range map[string]struct{ value, least time.Duration }{
		"max-wait": {c.MaxWait, 0}, "amavisd-timeout": {c.AmavisdTimeout, 0}, "retry-time": {c.RetryTime, 0},
		"deadline": {c.Deadline, time.Second}, "timeout": {c.Timeout, time.Second},
	} {
		if again, err := parseTime(shortTime(d.value), d.least); err != nil || again != d.value || d.value < d.least || d.value > maxTime {
			bad("%s is %v", name, d.value)
		}
	}
	for name, n := range map[string]struct{ value, most int }{
		"max-conns": {c.MaxConns, maxConns}, "backlog": {c.Backlog, maxBacklog},
		"max-sessions": {c.MaxSessions, maxSessions}, "max-sessions-per-address": {c.MaxSessionsPerAddress, maxSessions},
	} {
		if n.value < 0 || n.value > n.most {
			bad("%s is %d", name, n.value)
		}
	}
	for name, n := range map[string]int64{"max-spool": c.MaxSpool, "min-free": c.MinFree} {
		if again, err := parseBytes(byteCount(n)); err != nil || again != n || n < 0 || n > maxBytes {
			bad("%s is %d, shown as %s", name, n, byteCount(n))
		}
	}
	if c.SocketMode == 0 || c.SocketMode > 0o777 {
		bad("the mode is %o", c.SocketMode)
	}
}

// checkWords wants words that are known, and text that can go where it goes.
func checkWords(bad func(string, ...any), c *Config) {
	if c.XHeader != (Header{}) {
		if again, err := parseHeader(c.XHeader.String(), c.dialect); err != nil || again != c.XHeader {
			bad("X-header %+v", c.XHeader)
		}
	}
	for _, cause := range Causes() {
		if !slices.Contains([]Action{ActionTempFail, ActionAccept, ActionReject, ActionQuarantine}, c.OnFailure[cause]) {
			bad("%s is %q", cause, c.OnFailure[cause])
		}
	}
	if len(c.OnFailure) != len(Causes()) || c.DeliveryCareOf != "client" && c.DeliveryCareOf != "server" {
		bad("on failure %v, delivery by %q", c.OnFailure, c.DeliveryCareOf)
	}
	if c.LogTarget != TargetSyslog && (c.LogTarget != TargetStderr || !c.Foreground) {
		bad("the log goes to %q", c.LogTarget)
	}
	for _, account := range []string{c.User, c.SocketUser, c.SocketGroup} {
		if _, err := parseAccount(account, ""); account != "" && err != nil {
			bad("account %q", account)
		}
	}
	for _, b := range c.PolicyBanks {
		if b.Match.Kind == MatchSize || !isPolicyBankName(b.Name) {
			bad("policy bank %+v", b)
		}
	}
	for _, m := range c.Skips {
		if again, err := parseMatch(m.String(), forSkip); m.Kind == MatchAll || err != nil || again != m {
			bad("skip %+v is shown as %q, which is %+v, %v", m, m, again, err)
		}
	}
}
