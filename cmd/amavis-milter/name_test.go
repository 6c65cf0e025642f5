package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/config"
	"github.com/amavis-milter/amavis-milter/internal/logging"
)

// oldProgram is the program as it is called by a link of the name amavisd-milter, for
// root with an account to run as.
func oldProgram(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "amavisd-milter")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		args = append(args, "--user", testAccount)
	}
	cmd := program(args...)
	cmd.Path, cmd.Args[0] = link, link
	return cmd
}

func TestOldName(t *testing.T) {
	tests := []struct {
		args           string
		code           int
		stdout, stderr string // beginnings
	}{
		{"-h", 0, "Usage: amavisd-milter [OPTION]...\n", ""},
		{"-v", 0, "amavisd-milter ", ""},
		{"-d x -x", 64, "", "amavisd-milter: unknown option \"-x\": it is a letter of amavis-milter: write --no-x-header\n" +
			"amavisd-milter: -d/--debug-level: \"x\": write a number from 0 to 9\nTry 'amavisd-milter --help'.\n"},
	}
	for _, tt := range tests {
		stdout, stderr, code := output(t, oldProgram(t, strings.Fields(tt.args)...))
		if !strings.HasPrefix(stdout, tt.stdout) || (stdout == "") != (tt.stdout == "") || stderr != tt.stderr || code != tt.code {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", tt.args, code, stdout, stderr)
		}
	}
}

// TestOldNameDaemon: the daemon keeps the name that it was called by, in ps(1) as in
// the kernel: init scripts look for it there.
func TestOldNameDaemon(t *testing.T) {
	s := newSite(t, ampdptest.Continue())
	cmd := oldProgram(t, "-s", s.socket, "-S", s.amavisd, "-w", s.dir, "-p", s.pid, "-d", "1")
	if stdout, stderr, code := output(t, cmd); stdout != "" || code != 0 {
		t.Fatalf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	pid := s.readPID()
	t.Cleanup(func() {
		if alive(pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if string(comm) != "amavisd-milter\n" {
		t.Errorf("comm is %q, %v", comm, err)
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if argv0, _, _ := strings.Cut(string(cmdline), "\x00"); argv0 != cmd.Path {
		t.Errorf("argv[0] is %q, %v", argv0, err)
	}
	if answer, err := s.mta().SendMessage(message()); err != nil || answer.Code != 'a' && answer.Code != 'c' || len(answer.Changes) > 0 {
		t.Errorf("%+v, %v", answer, err) // above all, no X-header
	}
	syscall.Kill(pid, syscall.SIGTERM)
	await(t, "the daemon ends", func() bool { return !alive(pid) })
	s.isClean()
}

// TestOptionalPIDFile: one that nobody asked for is not worth a refusal, whatever
// is in its way; one that was asked for is.
func TestOptionalPIDFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	held := filepath.Join(dir, "held")
	other, err := writePIDFile(&config.Config{PIDFile: held}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Remove()
	for path, reason := range map[string]string{
		filepath.Join(dir, "missing", "pid"): "does not exist: create it",
		filepath.Join(dir, "directory"):      "is a directory, not a pid file",
		held:                                 "belongs to a running instance (",
	} {
		var log bytes.Buffer
		file, err := writePIDFile(&config.Config{PIDFile: path, PIDFileOptional: true}, nil, slog.New(logging.NewStderr(&log, slog.LevelInfo)))
		if file != nil || err != nil || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), " warn ") || !strings.Contains(log.String(), reason) {
			t.Errorf("%s: %v, %v; log: %s", path, file, err, log.String())
		}
		if file, err := writePIDFile(&config.Config{PIDFile: path}, nil, nil); file != nil || err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s, asked for: %v, %v", path, file, err)
		}
	}
	path := filepath.Join(dir, "pid")
	file, err := writePIDFile(&config.Config{PIDFile: path, PIDFileOptional: true}, nil, nil)
	if text, _ := os.ReadFile(path); err != nil || string(text) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("%q, %v", text, err)
	}
	if err := file.Remove(); err != nil {
		t.Error(err)
	}
	if file, err := writePIDFile(&config.Config{}, nil, nil); file != nil || err != nil {
		t.Errorf("none wanted: %v, %v", file, err)
	}
}

// TestRulesAreLogged: who reads the log sees which mail is not scanned.
func TestRulesAreLogged(t *testing.T) {
	s := newSite(t, ampdptest.Continue())
	p := s.start("--policy-bank", "MILTER", "--policy-bank", "auth=ORIGINATING", "--skip", "192.0.2.1", "--skip", "size>1000000", "--skip", "::/0")
	p.signal(syscall.SIGTERM)
	p.exits(0)
	log := p.log.String()
	for _, part := range []string{
		` policy_bank=MILTER policy_bank="auth=ORIGINATING" skip=192.0.2.1/32 skip=size>1000000 skip=::/0 `,
		" warn --skip ::/0: all mail of clients with an IPv6 address passes unscanned",
	} {
		if !strings.Contains(log, part) {
			t.Errorf("%q is not in the log:\n%s", part, log)
		}
	}
}
