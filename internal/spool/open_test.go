package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const strangerUID, strangerGID = 54321, 54322

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, dir string) string // returns the work directory to open
		kind Kind
		text string // part of the error
	}{
		{"empty", func(*testing.T, string) string { return "" }, KindConfig, `"" is no directory`},
		{"relative", func(*testing.T, string) string { return "var/amavis" }, KindConfig, "not an absolute path"},
		{"missing", func(_ *testing.T, dir string) string { return dir + "/none" }, KindConfig, "does not exist"},
		{"dot dot", func(_ *testing.T, dir string) string { return dir + "/../work" }, KindConfig, "has .. in it"},
		{"space", func(_ *testing.T, dir string) string { return dir + "/a b" }, KindConfig, `/a b" has a character`},
		{"newline", func(_ *testing.T, dir string) string { return dir + "/a\nb" }, KindConfig, `/a\nb" has a character`},
		{"UTF-8", func(_ *testing.T, dir string) string { return dir + "/größe" }, KindConfig, "has a character"},
		{"file", func(t *testing.T, dir string) string {
			must(t, os.WriteFile(dir+"/f", nil, 0o600))
			return dir + "/f"
		}, KindConfig, "is not a directory"},
		{"below a file", func(t *testing.T, dir string) string {
			must(t, os.WriteFile(dir+"/f", nil, 0o600))
			return dir + "/f/x"
		}, KindConfig, "is not a directory"},
		{"link in a circle", func(t *testing.T, dir string) string {
			must(t, os.Symlink("loop", dir+"/loop"))
			return dir + "/loop"
		}, KindConfig, "without an end"},
		{"writable by all", func(t *testing.T, dir string) string {
			must(t, os.Chmod(dir, 0o757))
			return dir
		}, KindConfig, "writable by everybody (mode 0757)"},
		{"writable by all, sticky", func(t *testing.T, dir string) string {
			must(t, os.Chmod(dir, 0o777|os.ModeSticky))
			return dir
		}, KindConfig, "writable by everybody (mode 1777)"},
		{"milter is a link", func(t *testing.T, dir string) string {
			must(t, os.Mkdir(dir+"/elsewhere", 0o750))
			must(t, os.Symlink("elsewhere", dir+"/milter"))
			return dir
		}, KindConfig, "is not a directory, or a link"},
		{"milter is a file", func(t *testing.T, dir string) string {
			must(t, os.WriteFile(dir+"/milter", nil, 0o600))
			return dir
		}, KindConfig, "is not a directory, or a link"},
		{"lock is a link", func(t *testing.T, dir string) string {
			must(t, os.Mkdir(dir+"/milter", 0o750))
			must(t, os.Symlink("../precious", dir+"/milter/.lock"))
			return dir
		}, KindOS, ".lock cannot be opened"},
		{"lock is a directory", func(t *testing.T, dir string) string {
			must(t, os.MkdirAll(dir+"/milter/.lock", 0o750))
			return dir
		}, KindOS, ".lock cannot be opened"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := workDir(t)
			fds := openFiles(t)
			s, err := Open(tt.make(t, dir), Options{})
			if s != nil {
				s.Close()
			}
			wantSetupError(t, err, tt.kind, tt.text)
			if now := openFiles(t); now != fds {
				t.Errorf("%d descriptors open, %d before", now, fds)
			}
			wantGone(t, dir+"/precious")
			wantGone(t, dir+"/none")
		})
	}
}

func wantSetupError(t *testing.T, err error, kind Kind, text string) {
	t.Helper()
	var setup *SetupError
	if !errors.As(err, &setup) {
		t.Fatalf("error %v is no SetupError", err)
	}
	if setup.Kind != kind {
		t.Errorf("kind %v, want %v", setup.Kind, kind)
	}
	line := err.Error()
	if !strings.Contains(line, text) || strings.ContainsAny(line, "\n\x00") || !strings.HasPrefix(line, "work directory: ") {
		t.Errorf("%q is not one line with %q", line, text)
	}
	if setup.Advice == "" {
		t.Errorf("%q does not say what to do", line)
	}
}

// What an operator reads names the variables that amavisd must have the same.
func TestMissingWorkDirTellsWhatMustMatch(t *testing.T) {
	_, err := Open(workDir(t)+"/none", Options{})
	for _, word := range []string{"/none does not exist", "0750", "$TEMPBASE", "$MYHOME"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q lacks %q", err, word)
		}
	}
}

func TestOpenRefusesStrangers(t *testing.T) {
	needRoot(t, "chown")
	t.Run("work directory", func(t *testing.T) {
		dir := workDir(t)
		must(t, os.Chown(dir, strangerUID, strangerGID))
		_, err := Open(dir, Options{})
		wantSetupError(t, err, KindConfig, "belongs to uid 54321")
	})
	t.Run("milter", func(t *testing.T) {
		dir := workDir(t)
		must(t, os.Mkdir(dir+"/milter", 0o750))
		must(t, os.Chown(dir+"/milter", strangerUID, strangerGID))
		_, err := Open(dir, Options{})
		wantSetupError(t, err, KindConfig, "/milter belongs to uid 54321")
	})
}

func TestOpenWithoutPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("an ordinary user is missing: root may do everything (TestAsOrdinaryUser runs this)")
	}
	t.Run("work directory of root", func(t *testing.T) {
		_, err := Open("/etc", Options{})
		wantSetupError(t, err, KindPermission, "/etc cannot be written by uid")
	})
	t.Run("not writable", func(t *testing.T) {
		dir := workDir(t)
		must(t, os.Chmod(dir, 0o550))
		_, err := Open(dir, Options{})
		wantSetupError(t, err, KindPermission, "cannot be written by uid")
	})
	t.Run("cannot be entered", func(t *testing.T) {
		dir := workDir(t)
		must(t, os.Mkdir(dir+"/deeper", 0o750))
		must(t, os.Chmod(dir, 0))
		_, err := Open(dir+"/deeper", Options{})
		wantSetupError(t, err, KindPermission, "cannot be entered by uid")
	})
	t.Run("entered but not read", func(t *testing.T) {
		dir := workDir(t)
		must(t, os.Chmod(dir, 0o350))
		must(t, seal(t, create(t, open(t, dir), "Q")).Remove())
	})
}

func TestOpenThroughLink(t *testing.T) {
	dir := workDir(t)
	link := filepath.Join(filepath.Dir(dir), "link")
	must(t, os.Symlink(dir, link))
	s := open(t, link+"//./")
	m := seal(t, create(t, s, "Q"))
	if want := link + "/milter/amavis-milter-Q"; m.Dir() != want {
		t.Errorf("Dir is %s, want %s: amavisd compares with the path as configured", m.Dir(), want)
	}
	must(t, m.Remove())
}

func TestOpenWarnings(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, dir string) string
		text string // "" for no warning
	}{
		{"as it should be", func(t *testing.T, dir string) string { return dir }, ""},
		{"group-writable", func(t *testing.T, dir string) string { must(t, os.Chmod(dir, 0o770)); return dir }, "writable by its group"},
		{"others enter", func(t *testing.T, dir string) string { must(t, os.Chmod(dir, 0o751)); return dir }, "mode 0751"},
		{"others read", func(t *testing.T, dir string) string { must(t, os.Chmod(dir, 0o754)); return dir }, "mode 0754"},
		{"owner alone", func(t *testing.T, dir string) string { must(t, os.Chmod(dir, 0o700)); return dir }, "its owner alone (mode 0700)"},
		{"above for the owner alone", func(t *testing.T, dir string) string {
			must(t, os.Mkdir(dir+"/w", 0o750))
			must(t, os.Chmod(dir, 0o700))
			return dir + "/w"
		}, "/work can be entered by its owner alone"},
		{"amavis- in the path", func(t *testing.T, dir string) string {
			must(t, os.MkdirAll(dir+"/amavis-tmp/w", 0o750))
			return dir + "/amavis-tmp/w"
		}, "log id"},
		{"amavis without hyphen", func(t *testing.T, dir string) string {
			must(t, os.MkdirAll(dir+"/amavis", 0o750))
			return dir + "/amavis"
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log, text := logged()
			s, err := Open(tt.make(t, workDir(t)), Options{Log: log})
			must(t, err)
			defer s.Close()
			got, want := strings.Count(text.String(), "level=WARN"), min(len(tt.text), 1)
			if got != want || !strings.Contains(text.String(), tt.text) {
				t.Errorf("%d warnings, want %d with %q: %s", got, want, tt.text, text)
			}
		})
	}
}

func TestAccess(t *testing.T) {
	s := open(t, workDir(t))
	a := s.Access()
	if a.Dir != s.home.path || a.UID != os.Geteuid() || a.GID != os.Getegid() || a.Mode != 0o750 || a.FileMode != 0o640 {
		t.Errorf("access: %+v", a)
	}
	if !strings.Contains(a.String(), "directories 0750, files 0640") {
		t.Errorf("access: %s", a)
	}
}

// A setgid milter/ hands its group down, and a work directory of another group
// than the mail files draws a warning.
func TestGroups(t *testing.T) {
	needRoot(t, "chgrp")
	dir := workDir(t)
	must(t, os.Chown(dir, 0, strangerGID))
	log, text := logged()
	s, err := Open(dir, Options{Log: log})
	must(t, err)
	if want := "belong to the group with gid 0, the work directory to gid 54322"; !strings.Contains(text.String(), want) {
		t.Errorf("no warning of %q: %s", want, text)
	}
	must(t, s.Close())

	must(t, os.Chown(dir+"/milter", 0, strangerGID))
	must(t, os.Chmod(dir+"/milter", 0o777|os.ModeSetgid))
	text.Reset()
	s, err = Open(dir, Options{Log: log})
	must(t, err)
	if s.Access().GID != strangerGID || text.Len() != 0 {
		t.Errorf("access %v, logged %q", s.Access(), text)
	}
	wantMode(t, dir+"/milter", os.ModeDir|os.ModeSetgid|0o750)
	m := seal(t, create(t, s, "Q"))
	wantMode(t, m.Dir(), os.ModeDir|os.ModeSetgid|0o750)
	var st unix.Stat_t
	must(t, unix.Stat(m.File(), &st))
	if st.Gid != strangerGID {
		t.Errorf("the mail file belongs to gid %d", st.Gid)
	}
	must(t, m.Remove())
}

func TestModesWhateverTheUmask(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o027, 0o077, 0o777} {
		dir := workDir(t)
		must(t, os.Mkdir(dir+"/second", 0o750))
		must(t, os.Mkdir(dir+"/second/milter", 0o701))
		old := unix.Umask(umask)
		defer unix.Umask(old)
		for _, work := range []string{dir, dir + "/second"} {
			s := open(t, work)
			m := seal(t, create(t, s, "Q"))
			wantMode(t, work+"/milter", os.ModeDir|0o750)
			wantMode(t, work+"/milter/.lock", 0o600)
			wantMode(t, m.Dir(), os.ModeDir|0o750)
			wantMode(t, m.File(), 0o640)
			must(t, m.Remove())
			must(t, s.Close())
		}
		unix.Umask(old)
	}
}

func TestLockHeldBySomebodyElse(t *testing.T) {
	dir := workDir(t)
	s := open(t, dir)
	must(t, s.Close())
	f, err := os.OpenFile(dir+"/milter/.lock", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	work, err := unix.Open(dir, unix.O_RDONLY, 0)
	must(t, err)
	defer unix.Close(work)

	fds := openFiles(t)
	_, err = openHome(t.Context(), work, dir, os.Geteuid(), true, 30*time.Millisecond)
	wantSetupError(t, err, KindOS, ".lock has been locked by somebody else")
	if now := openFiles(t); now != fds {
		t.Errorf("%d descriptors open, %d before", now, fds)
	}

	// It is waited for: the other one's sweep ends while we try.
	opened := make(chan error)
	go func() {
		s, err := Open(dir, Options{})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_SH))
	must(t, <-opened)
}

// lockHome makes milter/ and holds its lock exclusively, as an instance does that
// sweeps.
func lockHome(t *testing.T, work string) {
	t.Helper()
	must(t, os.MkdirAll(work+"/milter", 0o750))
	f, err := os.OpenFile(work+"/milter/.lock", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
}

// Open ends with its context while it waits for the lock, and in mid-sweep; it
// gives everything back.
func TestOpenEndsWithItsContext(t *testing.T) {
	stop := errors.New("told to end")
	t.Run("waiting for the lock", func(t *testing.T) {
		work := workDir(t)
		lockHome(t, work)
		fds := openFiles(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(stop) })
		begin := time.Now()
		s, err := Open(work, Options{Context: ctx})
		if s != nil || !errors.Is(err, stop) || time.Since(begin) > LockWait/2 {
			t.Errorf("Open: %v, %v after %v", s, err, time.Since(begin))
		}
		if now := openFiles(t); now != fds {
			t.Errorf("%d descriptors open, %d before", now, fds)
		}
	})
	t.Run("sweeping", func(t *testing.T) {
		work := workDir(t)
		for i := range 100 {
			must(t, os.MkdirAll(fmt.Sprintf("%s/milter/amavis-milter-Q%d", work, i), 0o750))
		}
		fds := openFiles(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(stop)
		s, err := Open(work, Options{Context: ctx})
		if s != nil || !errors.Is(err, stop) || len(names(t, work)) != 100 {
			t.Errorf("Open: %v, %v; %d directories of 100 are left", s, err, len(names(t, work)))
		}
		if now := openFiles(t); now != fds {
			t.Errorf("%d descriptors open, %d before", now, fds)
		}
		open(t, work) // and the next one goes on
		wantNames(t, work)
	})
}

func TestKinds(t *testing.T) {
	for err, want := range map[error]Kind{
		unix.EACCES: KindPermission, unix.EPERM: KindPermission, unix.ENOSPC: KindCannotCreate, unix.EDQUOT: KindCannotCreate,
		unix.EROFS: KindCannotCreate, unix.EMFILE: KindOS, unix.EIO: KindOS,
	} {
		if got := setupKind(err); got != want {
			t.Errorf("%v is %v, want %v", err, got, want)
		}
		if text := want.String(); text == "none" {
			t.Errorf("kind %d has no name", want)
		}
	}
}

func TestIsNoSpace(t *testing.T) {
	wrapped := errors.Join(errors.New("x"), &os.PathError{Err: unix.ENOSPC})
	for err, want := range map[error]bool{unix.ENOSPC: true, unix.EDQUOT: true, wrapped: true, unix.EIO: false, nil: false} {
		if IsNoSpace(err) != want {
			t.Errorf("IsNoSpace(%v) is not %v", err, want)
		}
	}
}
