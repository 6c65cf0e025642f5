package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// started is a detached little daemon.
type started struct {
	facts
	socket, pidFile string
}

// startDaemon runs the program and fails the test unless the parent reports
// success and the socket is open then. The daemon is ended with the test.
func startDaemon(t *testing.T, cmd *exec.Cmd) *started {
	t.Helper()
	dir := shortTempDir(t)
	return startDaemonIn(t, cmd, dir, filepath.Join(dir, "status"))
}

func startDaemonIn(t *testing.T, cmd *exec.Cmd, dir, status string) *started {
	t.Helper()
	s := &started{socket: filepath.Join(dir, "s"), pidFile: filepath.Join(dir, "pid")}
	cmd.Args = append(cmd.Args, "-socket", s.socket, "-pid-file", s.pidFile, "-status", status)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("the parent ended with %v and said %q", err, out)
	}
	conn, err := net.Dial("unix", s.socket) // at once: the parent says that it serves
	if err != nil {
		t.Fatalf("the parent has returned, but: %v", err)
	}
	conn.Close()
	text, err := os.ReadFile(status)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s.facts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if alive(s.PID) {
			endDaemon(t, s.PID, syscall.SIGKILL)
		}
	})
	return s
}

func TestDetachedProcess(t *testing.T) {
	s := startDaemon(t, command(t, install(t, "amavis-milter")))
	proc := fmt.Sprintf("/proc/%d/", s.PID)
	for link, want := range map[string]string{"cwd": "/", "fd/0": "/dev/null", "fd/1": "/dev/null", "fd/2": "/dev/null"} {
		if got, err := os.Readlink(proc + link); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", link, got, err, want)
		}
	}
	if s.Umask != daemonUmask {
		t.Errorf("umask %03o, want %03o", s.Umask, daemonUmask)
	}
	if s.Marked {
		t.Errorf("the child's environment still has %s", readyVariable)
	}
	if text, err := os.ReadFile(s.pidFile); err != nil || string(text) != strconv.Itoa(s.PID)+"\n" {
		t.Errorf("pid file holds %q, %v; want %d", text, err, s.PID)
	}
	stat, err := os.ReadFile(proc + "stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest) // state ppid pgrp session tty_nr …
	if pid := strconv.Itoa(s.PID); fields[2] != pid || fields[3] != pid || fields[4] != "0" {
		t.Errorf("process group %s, session %s, terminal %s; want %s, %[4]s and 0", fields[2], fields[3], fields[4], pid)
	}
	endDaemon(t, s.PID, syscall.SIGTERM)
	for _, path := range []string{s.socket, s.pidFile} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left behind: %v", path, err)
		}
	}
}

// TestDetachedName: init scripts find us by pkill(1), and argv[0] tells which
// program is meant.
func TestDetachedName(t *testing.T) {
	milter, milterD := install(t, "amavis-milter"), install(t, "amavisd-milter")
	tests := []struct {
		name  string
		cmd   func() *exec.Cmd
		comm  string // "" is the test binary's own
		argv0 string
	}{
		{"absolute path", func() *exec.Cmd { return command(t, milter) }, "amavis-milter", milter},
		{"the other name", func() *exec.Cmd { return command(t, milterD) }, "amavisd-milter", milterD},
		{"relative path", func() *exec.Cmd {
			cmd := command(t, milter)
			cmd.Dir, cmd.Args[0] = filepath.Dir(milter), "./amavis-milter"
			return cmd
		}, "amavis-milter", "./amavis-milter"},
		{"found in PATH", func() *exec.Cmd {
			cmd := command(t, milter)
			cmd.Args[0] = "amavis-milter"
			cmd.Env = append(cmd.Env, "PATH="+filepath.Dir(milter)+":"+os.Getenv("PATH"))
			return cmd
		}, "amavis-milter", "amavis-milter"},
		{"argv[0] is another program", func() *exec.Cmd {
			cmd := command(t, milter)
			cmd.Args[0] = "/bin/false"
			return cmd
		}, "", "/bin/false"},
		{"argv[0] is nowhere", func() *exec.Cmd {
			cmd := command(t, milter)
			cmd.Args[0] = "amavisd-milter"
			cmd.Env = append(cmd.Env, "PATH=/nonexistent")
			return cmd
		}, "", "amavisd-milter"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := startDaemon(t, test.cmd())
			if test.comm != "" {
				out, err := exec.Command("pgrep", "-x", test.comm).Output()
				if err != nil || !strings.Contains("\n"+string(out), fmt.Sprintf("\n%d\n", s.PID)) {
					t.Errorf("pgrep -x %s finds %q, %v; want %d", test.comm, out, err, s.PID)
				}
			}
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.PID))
			if argv0, _, _ := bytes.Cut(line, []byte{0}); err != nil || string(argv0) != test.argv0 {
				t.Errorf("argv[0] is %q, %v; want %q", argv0, err, test.argv0)
			}
		})
	}
}

func TestDetachReportsFailure(t *testing.T) {
	path := install(t, "amavis-milter")
	tests := []struct {
		mode, stderr string // stderr as a whole, or with a leading * a part of it
		code         int
	}{
		{"fail", "first line\nsecond line: 100% wrong\n", ExitConfiguration},
		{"fail-plain", "no code\n", ExitSoftware},
		{"die", "the daemon died at its start without a word (exit status 3)\n", ExitSoftware},
		{"kill", "the daemon died at its start without a word (signal: killed)\n", ExitSoftware},
		{"panic", "*panic: a panic at the start", ExitSoftware},
	}
	for _, test := range tests {
		t.Run(test.mode, func(t *testing.T) {
			cmd := command(t, path, "-mode", test.mode)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != test.code {
				t.Errorf("exit code %d, want %d", got, test.code)
			}
			part, isPart := strings.CutPrefix(test.stderr, "*")
			if got := stderr.String(); got != test.stderr && (!isPart || !strings.Contains(got, part)) {
				t.Errorf("stderr %q, want %q", got, test.stderr)
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout %q, want nothing", stdout.String())
			}
			if left := running(t, path); len(left) > 0 {
				t.Errorf("processes %v are left", left)
			}
		})
	}
}

// TestDetachEndsSilentChild: the child is deaf to TERM as well, so this takes
// endTimeout.
func TestDetachEndsSilentChild(t *testing.T) {
	t.Parallel()
	path := install(t, "amavis-milter")
	cmd := command(t, path, "-mode", "hang", "-timeout", "300ms")
	out, _ := cmd.CombinedOutput()
	want := "the daemon did not say within 300ms that it serves, and was ended"
	if cmd.ProcessState.ExitCode() != ExitSoftware || !strings.Contains(string(out), want) {
		t.Errorf("exit code %d and %q, want %d and %q", cmd.ProcessState.ExitCode(), out, ExitSoftware, want)
	}
	if left := running(t, path); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

// TestDetachHoldsNothing: a caller that waits for the end of our output, or of a
// descriptor that it did not know we inherit, is not kept waiting by the daemon.
func TestDetachHoldsNothing(t *testing.T) {
	path := install(t, "amavis-milter")
	for _, redirection := range []string{"", "2>&1", "9>&1 2>&1", "<&0 3>&1 4>&2", "<&- 2>&- 5>&1"} {
		t.Run(redirection, func(t *testing.T) {
			dir := shortTempDir(t)
			status := filepath.Join(dir, "status")
			script := fmt.Sprintf(`out=$(%s -socket %s/s -status %s %s); echo "code=$? out=$out"`, path, dir, status, redirection)
			cmd := command(t, "/bin/sh", "-c", script)
			begin := time.Now()
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != "code=0 out=\n" {
				t.Fatalf("got %q, %v after %v", out, err, time.Since(begin))
			}
			var f facts
			text, err := os.ReadFile(status)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &f); err != nil {
				t.Fatal(err)
			}
			defer endDaemon(t, f.PID, syscall.SIGTERM)
			for _, fd := range []int{3, 4, 5, 9} {
				link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", f.PID, fd))
				if err == nil && strings.HasPrefix(link, "pipe:") {
					t.Errorf("the daemon still has %s as descriptor %d", link, fd)
				}
			}
		})
	}
}

// TestCloseInherited: with close_range(2), and as on older systems.
func TestCloseInherited(t *testing.T) {
	old := func() { closeInheritedOneByOne(unix.CloseOnExec) }
	for name, closeInherited := range map[string]func(){"new": closeInheritedOnExec, "old": old} {
		fd, err := unix.Dup(int(os.Stderr.Fd())) // without FD_CLOEXEC
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		closeInherited()
		for fd, want := range map[int]int{fd: unix.FD_CLOEXEC, 2: 0} {
			if got, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || got != want {
				t.Errorf("%s: descriptor %d has flags %d, %v; want %d", name, fd, got, err, want)
			}
		}
	}
}

// TestParentGone: a daemon whose parent was killed while it waited does not serve:
// the caller believes that the start has failed.
func TestParentGone(t *testing.T) {
	path, dir := install(t, "amavis-milter"), shortTempDir(t)
	gate, socket := filepath.Join(dir, "gate"), filepath.Join(dir, "s")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, path, "-gate", gate, "-socket", socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "parent and child run", func() bool { return len(running(t, path)) == 2 })
	// The open returns when the child reads: it has its line to the parent then.
	opened, err := os.OpenFile(gate, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	opened.Close()
	eventually(t, "the child ends", func() bool { return len(running(t, path)) == 0 })
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a socket is left: %v", err)
	}
}

// TestStrayVariable: somebody's environment does not make us a child.
func TestStrayVariable(t *testing.T) {
	path := install(t, "amavis-milter")
	for _, value := range []string{"", "x", "0", "2", "3", "77", "-1", "99999999999999999999"} {
		t.Run(value, func(t *testing.T) {
			cmd := command(t, path)
			cmd.Env = append(cmd.Env, readyVariable+"="+value)
			startDaemon(t, cmd)
		})
	}
}

func TestForegroundReportsToNobody(t *testing.T) {
	if parent := FromParent(); parent != nil {
		t.Fatal("the test is a detached child")
	}
	var parent *Parent
	if err := parent.Ready(); err != nil {
		t.Error(err)
	}
	parent.Fail(io.EOF)
}

func TestParseReport(t *testing.T) {
	long := strings.Repeat("x", maxReport)
	tests := []struct {
		report string
		ready  bool
		code   int // 0: no failure
		text   string
	}{
		{"ready\n", true, 0, ""},
		{"ready", false, 0, ""},
		{"", false, 0, ""},
		{"\n", false, 0, ""},
		{"fail 64\nwhy", false, 64, "why"},
		{"fail 64\n", false, 64, ""},
		{"fail 64", false, 0, ""},
		{"fail 0\nwhy", false, 0, ""},
		{"fail x\nwhy", false, 0, ""},
		{"fail 73\n" + long, false, 73, long},
	}
	for _, test := range tests {
		ready, failure := parseReport([]byte(test.report))
		if ready != test.ready || ExitCode(failure) != test.code || failure != nil && failure.Error() != test.text {
			t.Errorf("parseReport(%.20q) = %v, %.40v", test.report, ready, failure)
		}
	}
}

// TestLongFailure: a text that is too long is cut, not lost.
func TestLongFailure(t *testing.T) {
	for _, size := range []int{maxReport - 65, maxReport - 64, maxReport - 63, 2 * maxReport} {
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		go (&Parent{pipe: writer}).Fail(failf(ExitNoPermission, "%s", strings.Repeat("x", size)))
		report, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		_, failure := parseReport(report)
		if want := min(size, maxReport-64); ExitCode(failure) != ExitNoPermission || len(failure.Error()) != want || len(report) > maxReport {
			t.Errorf("%d bytes: code %d and %d bytes, want %d and %d", size, ExitCode(failure), len(failure.Error()), ExitNoPermission, want)
		}
	}
}
