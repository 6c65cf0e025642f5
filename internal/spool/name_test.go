package spool

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Both as in Amavis/In/AMPDP.pm: what a tempdir must look like below $TEMPBASE
// (its lookahead against ".." written out), and where the log id is taken from.
var (
	amavisdTempDir = regexp.MustCompile(`\A(?:/[A-Za-z0-9_.-]+)+\z`)
	amavisdLogID   = regexp.MustCompile(`amavis-(milter-)?([^/ \t]+)`)
)

func TestCreateNames(t *testing.T) {
	const random = `[A-Z2-7]{12}`
	tests := []struct{ name, queueID, want string }{
		{"sendmail", "x7GKHh12345678", `x7GKHh12345678`},
		{"Postfix, short", "4F1D2C3B5A", `4F1D2C3B5A`},
		{"Postfix, long", "3nXyZ12bQszq8w", `3nXyZ12bQszq8w`},
		{"longest but one", strings.Repeat("a", maxQueueID-1), `a{99}`},
		{"longest", strings.Repeat("a", maxQueueID), `a{100}`},
		{"too long", strings.Repeat("a", maxQueueID+1), random},
		{"much too long", strings.Repeat("a", 300), random},
		{"missing", "", random},
		{"climbs up", "../x", random},
		{"slash", "a/b", random},
		{"absolute", "/etc/passwd", random},
		{"NUL", "a\x00b", random},
		{"newline", "a\nb", random},
		{"newline at the end", "a\n", random},
		{"space", "a b", random},
		{"percent", "a%2fb", random},
		{"UTF-8", "größe", random},
		{"a byte over 127", "\xff", random},
		{"one dot", ".", `\.`},
		{"two dots", "..", `\.\.`},
		{"option", "-rf", `-rf`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := workDir(t)
			s := open(t, dir)
			m := seal(t, create(t, s, tt.queueID))
			defer m.Remove()

			want := regexp.MustCompile(`\Aamavis-milter-(` + tt.want + `)\z`)
			got := names(t, dir)
			if len(got) != 1 || !want.MatchString(got[0]) {
				t.Fatalf("in milter/: %q, want %v", got, want)
			}
			if m.Dir() != filepath.Join(dir, "milter", got[0]) || m.File() != m.Dir()+"/email.txt" {
				t.Errorf("paths %s and %s do not fit the name %s", m.Dir(), m.File(), got[0])
			}
			if !amavisdTempDir.MatchString(m.Dir()) || strings.Contains(m.Dir()+"/", "/../") {
				t.Errorf("amavisd would refuse %q", m.Dir())
			}
			if id := amavisdLogID.FindStringSubmatch(m.File())[2]; id != got[0][len(dirPrefix):] {
				t.Errorf("amavisd's log id is %q", id)
			}
			if !isDirName(got[0]) {
				t.Errorf("the sweep would not know %q", got[0])
			}
			wantMode(t, m.Dir(), os.ModeDir|dirMode)
		})
	}
}

func TestCreateTakenNames(t *testing.T) {
	want := regexp.MustCompile(`\Aamavis-milter-QID-[A-Z2-7]{12}\z`)
	takers := map[string]func(path string) error{
		"directory":     func(path string) error { return os.Mkdir(path, 0o750) },
		"file":          func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"link":          func(path string) error { return os.Symlink("/etc", path) },
		"dangling link": func(path string) error { return os.Symlink("nowhere", path) },
	}
	for name, take := range takers {
		t.Run(name, func(t *testing.T) {
			dir := workDir(t)
			s := open(t, dir)
			taken := filepath.Join(dir, "milter", "amavis-milter-QID")
			must(t, take(taken))
			m := seal(t, create(t, s, "QID"))
			if got := filepath.Base(m.Dir()); !want.MatchString(got) {
				t.Errorf("name %q, want %v", got, want)
			}
			wantMode(t, m.Dir(), os.ModeDir|dirMode)
			wantFile(t, m.File(), "\n")
			must(t, m.Remove())
			wantNames(t, dir, "amavis-milter-QID")
		})
	}
}

func TestCreateSameQueueID(t *testing.T) {
	dir := workDir(t)
	s := open(t, dir)
	first, second := seal(t, create(t, s, "QID")), seal(t, create(t, s, "QID"))
	must(t, first.Remove())
	wantFile(t, second.File(), "\n")
	must(t, second.Remove())
	wantNames(t, dir)
}

func TestIsDirName(t *testing.T) {
	longest := dirName(strings.Repeat("x", maxQueueID), 1)
	for name, want := range map[string]bool{
		"amavis-milter-a": true, longest: true, longest + "x": false, "amavis-milter-": false, "amavis-milter": false,
		"xamavis-milter-a": false, "amavis-20260101T000000-00001-abc": false, "amavis-milter-a b": false, "amavis-milter-a\n": false,
	} {
		if got := isDirName(name); got != want {
			t.Errorf("isDirName(%q) = %v", name, got)
		}
	}
}
