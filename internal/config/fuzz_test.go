package config

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// fuzzNames are what the program may be called.
var fuzzNames = []string{"amavis-milter", "amavisd-milter", "/usr/sbin/amavisd-milter", "./amavis-milter", "", "-amavisd-milter", "\xff\n"}

// oddEnv is the machine of fakeEnv with something odd for each bit of a number.
func oddEnv(bits byte) Env {
	env := fakeEnv()
	odd := errors.New("no answer\nfrom \x1b[31m\x00the server")
	for bit, change := range []func(){
		func() { env.Euid = 0 },
		func() { env.LookupUser = func(string) (*user.User, error) { return nil, odd } },
		func() { env.LookupUser = func(string) (*user.User, error) { return &user.User{Uid: "-1\n"}, nil } },
		func() { env.LookupGroup = func(string) (*user.Group, error) { return nil, odd } },
		func() { env.LookupPort = func(_, service string) (int, error) { return len(service) << 13, nil } },
		func() { env.Stat = func(string) (fs.FileInfo, error) { return nil, odd } },
		func() { env.Stat = func(string) (fs.FileInfo, error) { return os.Stat("/dev/null") } },
		func() { env.EvalSymlinks = func(string) (string, error) { return "", odd } },
	} {
		if bits&(1<<bit) != 0 {
			change()
		}
	}
	return env
}

// FuzzParse reads command lines whose arguments are separated by NUL, under any name
// and on any machine. Whatever they are: no panic, every error and warning is one line
// that a terminal can show, and a Config that is taken is one that can be served.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "-h", "--version", "-vvvv\x00-d", "-p\x00local:/a.sock\x00-S/b.sock\x00-g\x00smmsp",
		"-p\x00inet:8899@127.0.0.1\x00-S\x00inet6:10024@[fe80::1%lo]", "-p\x00inet:h:25", "-S\x00inet6:1@::1%\n",
		"--on-failure\x00busy=accept\x00-P", "--x-header\x00X-A: b", "--socket-owner=a:b\x00--socket-mode=0660",
		"-t90s\x00-T1h\x00-M-1\x00--deadline=0", "--\x00-x", "---", "--=s=x", "-\xff", "-test.run=x", "-socket=/a", "--user\x00a\u2028b",
		"--policy-bank\x00\u2028=\u2028", "--policy-bank=X\x00--policy-bank=\xff\x00--policy-bank=X\x00--skip=size>0\x00--skip=::/0",
		"--max-spool=8G\x00--min-free\x0018446744073709551616T\x00--max-sessions=0\x00--max-sessions-per-address=-1",
	} {
		f.Add(byte(0), byte(0), seed)
	}
	f.Add(byte(1), byte(0), "-d\x009\x00-p/x\x00-D\x00server\x00-vP")
	f.Add(byte(2), byte(1), "--user\x00amavis\x00-s\x00inet6:milter@::")
	f.Add(byte(6), byte(255), "--user\x00x\x00-g\x00y\x00-w\x00/a/../b")
	f.Fuzz(func(t *testing.T, name, machine byte, line string) {
		checkParse(t, append([]string{fuzzNames[int(name)%len(fuzzNames)]}, strings.Split(line, "\x00")...), oddEnv(machine))
	})
}

// checkParse parses a command line and wants of the result all that holds for every
// one.
func checkParse(t *testing.T, argv []string, env Env) {
	c, err := Parse(argv, env)
	again, errAgain := Parse(argv, env)
	if c != nil && !reflect.DeepEqual(c, again) || err != nil && (errAgain == nil || err.Error() != errAgain.Error()) {
		t.Fatalf("%q: %+v, %v, and the second time %+v, %v", argv, c, err, again, errAgain)
	}
	var lines []string
	switch e := new(Error); {
	case err == nil:
		lines = c.Warnings
		checkConfig(t, argv, c, env)
	case errors.As(err, &e) && c == nil && len(e.Problems) > 0:
		for _, p := range e.Problems {
			lines = append(lines, p.Line)
			if p.Code != ExitUsage && p.Code != ExitConfig || e.ExitCode() > p.Code {
				t.Errorf("%q: %+v, and the exit code is %d", argv, p, e.ExitCode())
			}
		}
	default:
		t.Fatalf("%q: %+v, %v", argv, c, err)
	}
	for _, l := range lines {
		if l == "" || !utf8.ValidString(l) || strings.ContainsFunc(l, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q: not one printable line: %q", argv, l)
		}
	}
}
