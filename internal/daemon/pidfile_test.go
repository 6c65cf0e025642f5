package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func mustWritePID(t *testing.T, path string) *PIDFile {
	t.Helper()
	file, err := WritePIDFile(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// wantOurPID checks that the file names us and that all may read it.
func wantOurPID(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if want := strconv.Itoa(os.Getpid()) + "\n"; err != nil || string(text) != want {
		t.Errorf("pid file holds %q, %v; want %q", text, err, want)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode(); got != pidFileMode {
		t.Errorf("mode %v, want a regular file of %04o", got, pidFileMode)
	}
}

func TestPIDFile(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(path string) error
	}{
		{"new", func(string) error { return nil }},
		{"stale", func(path string) error { return os.WriteFile(path, []byte("4194304999\n"), 0o600) }},
		{"stale, number in use again", func(path string) error { return os.WriteFile(path, []byte("1\n"), 0o644) }},
		{"empty", func(path string) error { return os.WriteFile(path, nil, 0o644) }},
		{"longer than ours", func(path string) error { return os.WriteFile(path, []byte("  4194304999 \n\n"), 0o644) }},
		{"of many digits", func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("7", 9999)), 0o644) }},
		{"after a power failure", func(path string) error { return os.WriteFile(path, make([]byte, 8), 0o644) }},
		{"left by a crash in writing", func(path string) error {
			return os.WriteFile(filepath.Join(filepath.Dir(path), ".pid.new"), []byte("17\n"), 0o600)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "pid")
			if err := test.prepare(path); err != nil {
				t.Fatal(err)
			}
			old := syscall.Umask(0o077)
			file, err := WritePIDFile(path, nil)
			syscall.Umask(old)
			if err != nil {
				t.Fatal(err)
			}
			wantOurPID(t, path)
			if got := list(t, dir); got != "pid" {
				t.Errorf("the directory holds %s", got)
			}
			if err := file.Remove(); err != nil {
				t.Error(err)
			}
			if got := list(t, dir); got != "" {
				t.Errorf("the directory still holds %s", got)
			}
		})
	}
}

func TestPIDFileRefuses(t *testing.T) {
	dir := shortTempDir(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	held := mustWritePID(t, in("held"))
	defer held.Remove()
	staleSocket(t, in("socket"))
	err := errors.Join(os.WriteFile(in("file"), []byte("precious"), 0o644),
		os.WriteFile(in("nearly"), []byte("17\nx"), 0o644), os.Mkdir(in("open"), 0o700), os.Chmod(in("open"), 0o777), os.Mkdir(in("dir"), 0o700),
		os.Symlink("file", in("link")), os.Symlink("nowhere", in("dangling")), syscall.Mkfifo(in("fifo"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path  string
		code  int
		parts []string
	}{
		{in("held"), ExitUnavailable, []string{"belongs to a running instance (" + strconv.Itoa(os.Getpid()) + ")", "--pid-file"}},
		{in("dir"), ExitCannotCreate, []string{"is a directory"}},
		{in("link"), ExitCannotCreate, []string{"is a symbolic link"}},
		{in("file"), ExitCannotCreate, []string{"is no pid file: remove it"}},
		{in("nearly"), ExitCannotCreate, []string{"is no pid file: remove it"}},
		{in("open/pid"), ExitConfiguration, []string{"directory " + in("open") + " is writable by everybody (mode 0777)", "chmod o-w", "--pid-file"}},
		{in("dangling"), ExitCannotCreate, []string{"is a symbolic link"}},
		{in("fifo"), ExitCannotCreate, []string{"is a FIFO"}},
		{in("socket"), ExitCannotCreate, []string{"is a socket"}},
		{"/dev/null", ExitCannotCreate, []string{"is a device"}},
		{in("missing/pid"), ExitCannotCreate, []string{"directory " + in("missing") + " does not exist"}},
		{in("file/pid"), ExitCannotCreate, []string{"is not a directory"}},
		{"", ExitUsage, []string{"empty", "--pid-file"}},
	}
	before := list(t, dir)
	for _, test := range tests {
		_, err := WritePIDFile(test.path, nil)
		wantError(t, err, test.code, test.parts...)
	}
	if after := list(t, dir); after != before {
		t.Errorf("the directory holds %s, held %s", after, before)
	}
	if text, err := os.ReadFile(in("file")); err != nil || string(text) != "precious" {
		t.Errorf("the file behind the link holds %q, %v", text, err)
	}
	wantOurPID(t, in("held"))
}

// TestPIDFileRace: of many who start at once upon a stale file, one gets it, and a
// reader never sees half a number.
func TestPIDFileRace(t *testing.T) {
	const rounds, rivals = 50, 8
	path := filepath.Join(t.TempDir(), "pid")
	for range rounds {
		if err := os.WriteFile(path, []byte("4194304999\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var reader sync.WaitGroup
		reader.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				text, err := os.ReadFile(path)
				if err != nil || string(text) != "4194304999\n" && string(text) != strconv.Itoa(os.Getpid())+"\n" {
					t.Errorf("a reader found %q, %v", text, err)
					return
				}
			}
		})
		results := make(chan *PIDFile, rivals)
		for range rivals {
			go func() {
				file, err := WritePIDFile(path, nil)
				if err != nil && ExitCode(err) != ExitUnavailable {
					t.Error(err)
				}
				results <- file
			}()
		}
		var winners []*PIDFile
		for range rivals {
			if file := <-results; file != nil {
				winners = append(winners, file)
			}
		}
		close(stop)
		reader.Wait()
		if len(winners) != 1 {
			t.Fatalf("%d of %d got the pid file", len(winners), rivals)
		}
		if err := winners[0].Remove(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPIDFileOnlyOurs: what another has put into our file's place stays.
func TestPIDFileOnlyOurs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	file := mustWritePID(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("17\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := file.Remove(); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "17\n" {
		t.Errorf("the other's file holds %q, %v", text, err)
	}

	file = mustWritePID(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := file.Remove(); err != nil {
		t.Errorf("a file that is gone already: %v", err)
	}
}

// TestPIDFileYield: a successor takes over from one that drains, whose end does
// not take the file away.
func TestPIDFileYield(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	first := mustWritePID(t, path)
	first.Yield()
	wantOurPID(t, path) // until there is a successor
	second := mustWritePID(t, path)
	if err := first.Remove(); err != nil {
		t.Error(err)
	}
	wantOurPID(t, path)
	if err := second.Remove(); err != nil {
		t.Error(err)
	}
	gone(t, path)
}

func TestNoPIDFile(t *testing.T) {
	var file *PIDFile
	file.Yield()
	if err := file.Remove(); err != nil {
		t.Error(err)
	}
}

// TestPIDFileOfDeadProcess: no lock outlives its process, however that ended.
func TestPIDFileOfDeadProcess(t *testing.T) {
	s := startDaemon(t, command(t, install(t, "amavis-milter")))
	if _, err := WritePIDFile(s.pidFile, nil); ExitCode(err) != ExitUnavailable || !strings.Contains(err.Error(), strconv.Itoa(s.PID)) {
		t.Errorf("while it lives: %v", err)
	}
	endDaemon(t, s.PID, syscall.SIGKILL)
	if _, err := os.Lstat(s.pidFile); errors.Is(err, fs.ErrNotExist) {
		t.Fatal("a killed process has removed its pid file")
	}
	file := mustWritePID(t, s.pidFile)
	wantOurPID(t, s.pidFile)
	if err := file.Remove(); err != nil {
		t.Error(err)
	}
	mustListen(t, localConfig(s.socket)) // nor does a socket
}
