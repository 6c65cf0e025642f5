package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// releaseProgram builds the program as it is installed: without cgo, unlike a test binary
// with the race detector.
func releaseProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "amavis-milter")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// carelessly makes a command start as from a careless script: core files allowed,
// a descriptor left open, and a Go runtime that is told to dump.
func (s *site) carelessly(program string, args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := s.command(args...)
	cmd.Args = append([]string{"sh", "-c", `umask 0 && ulimit -c unlimited && exec 9</etc/passwd && exec "$@"`, "sh", program}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.Dir = s.dir // the user may write there, a core file for instance
	cmd.Env = append(cmd.Env, "GOTRACEBACK=crash")
	return cmd
}

// TestNothingOfRootIsLeft looks at every thread of the program that serves, started by
// root with --user: none has any of root's rights, nor any way to them.
func TestNothingOfRootIsLeft(t *testing.T) {
	needRoot(t)
	uid, gid := accountIDs(t)
	program := releaseProgram(t)
	for _, mode := range []string{"-D", "-f"} {
		t.Run(mode, func(t *testing.T) {
			s := newSite(t, ampdptest.Continue())
			cmd := s.carelessly(program, mode)
			if mode == "-f" {
				s.run(cmd)
			} else if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("%v\n%s", err, out)
			}
			pid := s.readPID()
			t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
			if _, err := s.mta().SendMessage(message()); err != nil { // more threads, and all rooms were used
				t.Fatal(err)
			}
			checkThreads(t, pid, uid, gid)
			checkUndumpable(t, pid, uid, gid)
			if mode == "-D" {
				checkDetached(t, s, pid)
			}
		})
	}
}

func checkThreads(t *testing.T, pid, uid, gid int) {
	t.Helper()
	four := func(id int) string { return strings.TrimSpace(strings.Repeat(strconv.Itoa(id)+" ", 4)) }
	const none = "0000000000000000"
	want := map[string]string{"Uid": four(uid), "Gid": four(gid), "Groups": strconv.Itoa(gid),
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none, "NoNewPrivs": "1"}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) < 3 {
		t.Fatalf("%d threads, %v", len(tasks), err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // a thread that has ended
		}
		seen := 0
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			value = strings.Join(strings.Fields(value), " ")
			if expected, asked := want[key]; asked {
				seen++
				if value != expected {
					t.Errorf("%s: %s is %q, want %q", task, key, value, expected)
				}
			}
		}
		if seen != len(want) {
			t.Errorf("%s: %d of %d lines", task, seen, len(want))
		}
	}
}

// checkUndumpable: no core file, and the same user's processes cannot look inside.
func checkUndumpable(t *testing.T, pid, uid, gid int) {
	t.Helper()
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0 bytes") {
		t.Errorf("limits: %v\n%s", err, limits)
	}
	for _, name := range []string{"mem", "maps", "environ", "fd"} {
		path := fmt.Sprintf("/proc/%d/%s", pid, name)
		info, err := os.Stat(path)
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s does not belong to root: %v", path, err)
		}
		look := exec.Command("/bin/sh", "-c", `ls "$1/" >/dev/null 2>&1 || head -c 1 "$1" >/dev/null`, "sh", path)
		look.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		if out, err := look.CombinedOutput(); err == nil || !strings.Contains(string(out), "ermission denied") {
			t.Errorf("the same user can read %s: %v %s", path, err, out)
		}
	}
}

// checkDetached: the daemon is alone in its session and holds nothing of its caller's.
func checkDetached(t *testing.T, s *site, pid int) {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d/", pid)
	for link, want := range map[string]string{"cwd": "/", "fd/0": os.DevNull, "fd/1": os.DevNull, "fd/2": os.DevNull} {
		if got, err := os.Readlink(proc + link); err != nil || got != want {
			t.Errorf("%s is %q, %v", link, got, err)
		}
	}
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		target, err := os.Readlink(proc + "fd/" + fd.Name())
		ours := target == os.DevNull || target == s.dir || strings.HasPrefix(target, s.dir+"/") ||
			strings.HasPrefix(target, "socket:") || strings.HasPrefix(target, "/sys/fs/cgroup/") || // the Go runtime reads its share of the processors
			strings.HasPrefix(target, "anon_inode:[event")
		if err == nil && !ours {
			t.Errorf("descriptor %s is %s", fd.Name(), target)
		}
	}
	for _, other := range sessionOf(t, pid) {
		if other != pid {
			t.Errorf("process %d is left in the session", other)
		}
	}
	status, err := os.ReadFile(proc + "status")
	if err != nil || !strings.Contains(string(status), "\nUmask:\t0027\n") {
		t.Errorf("umask: %v\n%s", err, status)
	}
}

// sessionOf returns the processes of a session, none of which may have a terminal.
func sessionOf(t *testing.T, sid int) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest) // state ppid pgrp session tty_nr
		if err != nil || len(fields) < 5 || fields[3] != strconv.Itoa(sid) {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		if pids = append(pids, pid); fields[4] != "0" {
			t.Errorf("process %d has terminal %s", pid, fields[4])
		}
	}
	if len(pids) == 0 {
		t.Errorf("nobody is in session %d", sid)
	}
	return pids
}

// TestCrashLeavesNoMail: signals that make a Go program dump core, sent while it holds a
// message, leave neither a core file nor anything of the message on stderr. The user
// himself has started it: after a change of user Linux makes no core file anyway.
func TestCrashLeavesNoMail(t *testing.T) {
	needRoot(t)
	uid, gid := accountIDs(t)
	binary, err := os.ReadFile(releaseProgram(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGSEGV} {
		t.Run(sig.String(), func(t *testing.T) {
			s := newSite(t, ampdptest.Hang())
			program := filepath.Join(s.dir, "amavis-milter")
			if err := os.WriteFile(program, binary, 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := s.carelessly(program, "-d")
			cmd.Args = cmd.Args[:len(cmd.Args)-2] // without --user
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
			p := s.run(cmd)
			m := s.mta()
			if err := m.SendUpTo(canaryMessage(), "eom"); err != nil {
				t.Fatal(err)
			}
			if err := m.Send('E', nil); err != nil {
				t.Fatal(err)
			}
			await(t, "amavisd has the request", func() bool { return len(s.scanner.Requests()) > 0 })
			p.signal(sig)
			<-p.ended
			status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
			if !ok || !status.Signaled() || status.CoreDump() {
				t.Errorf("it ended with %v", p.cmd.ProcessState)
			}
			if cores, _ := filepath.Glob(filepath.Join(s.dir, "core*")); len(cores) > 0 {
				t.Errorf("there are core files: %v", cores)
			}
			log := p.log.String()
			if !strings.Contains(log, "goroutine ") {
				t.Errorf("no traceback: %s", log)
			}
			noCanary(t, log)
		})
	}
}
