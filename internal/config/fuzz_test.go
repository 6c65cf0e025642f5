package config

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzParse reads command lines whose arguments are separated by NUL. Whatever they
// are: no panic, and every error and warning is one line that a terminal can show.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "-h", "--version", "-vvvv\x00-d", "-p\x00local:/a.sock\x00-S/b.sock\x00-g\x00smmsp",
		"-p\x00inet:8899@127.0.0.1\x00-S\x00inet6:10024@[fe80::1%lo]", "-p\x00inet:h:25", "-S\x00inet6:1@::1%\n",
		"--on-failure\x00busy=accept\x00-P", "--x-header\x00X-A: b", "--socket-owner=a:b\x00--socket-mode=0660",
		"-t90s\x00-T1h\x00-M-1\x00--deadline=0", "--\x00-x", "---", "--=s=x", "-\xff", "-test.run=x", "-socket=/a", "--user\x00a\u2028b",
		"--policy-bank\x00\u2028=\u2028", "--policy-bank=X\x00--policy-bank=\xff\x00--policy-bank=X\x00--skip=size>0\x00--skip=::/0",
	} {
		f.Add(false, seed)
	}
	f.Add(true, "-d\x009\x00-p/x\x00-D\x00server\x00-vP")
	f.Fuzz(func(t *testing.T, oldName bool, line string) {
		program := amavisMilter.program
		if oldName {
			program = amavisdMilter.program
		}
		c, err := Parse(append([]string{program}, strings.Split(line, "\x00")...), fakeEnv())
		var lines []string
		switch e := new(Error); {
		case err == nil:
			lines = c.Warnings
		case errors.As(err, &e) && c == nil && len(e.Problems) > 0:
			for _, p := range e.Problems {
				lines = append(lines, p.Line)
			}
		default:
			t.Fatalf("%q: %+v, %v", line, c, err)
		}
		for _, l := range lines {
			if l == "" || !utf8.ValidString(l) || strings.ContainsFunc(l, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q: not one printable line: %q", line, l)
			}
		}
	})
}
