package spool

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	unix.Umask(0o022)
	os.Exit(m.Run())
}

// workDir makes a work directory as an administrator should: 0750, and in a path
// without a character that amavisd refuses.
func workDir(t testing.TB) string {
	t.Helper()
	return workDirIn(t, os.TempDir())
}

// workDirIn makes it in a certain place.
func workDirIn(t testing.TB, place string) string {
	t.Helper()
	top, err := os.MkdirTemp(place, "spooltest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeTree(unix.AT_FDCWD, top, os.Geteuid()); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	dir := filepath.Join(top, "work")
	must(t, os.Chmod(top, 0o755))
	must(t, os.Mkdir(dir, 0o750))
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, dir string) *Spool {
	t.Helper()
	s, err := Open(dir, Options{})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func create(t testing.TB, s *Spool, queueID string) *Draft {
	t.Helper()
	d, err := s.Create(queueID)
	must(t, err)
	return d
}

func seal(t testing.TB, d *Draft) *Message {
	t.Helper()
	m, err := d.Seal()
	must(t, err)
	return m
}

// logged returns a logger and what was logged so far.
func logged() (*slog.Logger, *bytes.Buffer) {
	var text bytes.Buffer
	return slog.New(slog.NewTextHandler(&text, nil)), &text
}

// live returns how many directories are in use: made, and neither removed nor given
// up after an error in removing them.
func live(s *Spool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live)
}

// names returns what lies in milter/, without the lock.
func names(t testing.TB, workDir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(workDir, "milter"))
	must(t, err)
	var all []string
	for _, e := range entries {
		if e.Name() != lockName {
			all = append(all, e.Name())
		}
	}
	return all
}

func wantNames(t testing.TB, workDir string, want ...string) {
	t.Helper()
	if got := strings.Join(names(t, workDir), " "); got != strings.Join(want, " ") {
		t.Errorf("in milter/: %q, want %q", got, want)
	}
}

func wantMode(t testing.TB, path string, want fs.FileMode) {
	t.Helper()
	st, err := os.Lstat(path)
	must(t, err)
	if got := st.Mode(); got != want {
		t.Errorf("mode of %s: %v, want %v", path, got, want)
	}
}

func wantGone(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there (%v)", path, err)
	}
}

func wantFile(t testing.TB, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	if string(got) != want {
		t.Errorf("%s holds %.200q, want %.200q", path, got, want)
	}
}

// openFiles counts the descriptors of this process.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("/proc is missing: %v", err)
	}
	return len(entries)
}

// limitFiles limits the number of descriptors until the function that it returns is
// called.
func limitFiles(t *testing.T, limit int) (restore func()) {
	t.Helper()
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(limit), Max: old.Max}))
	return func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) }
}

// leaveFree limits the number of descriptors so that just n more can be opened, until
// the function that it returns is called. The limit is one of numbers, not of how many
// are open: what the tests were started with may have any number.
func leaveFree(t *testing.T, n int) (restore func()) {
	t.Helper()
	limit := 0
	for free := 0; free < n; limit++ {
		if _, err := unix.FcntlInt(uintptr(limit), unix.F_GETFD, 0); err == unix.EBADF {
			free++
		}
	}
	return limitFiles(t, limit)
}

func needRoot(t *testing.T, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("root is missing: needed to %s", what)
	}
}
