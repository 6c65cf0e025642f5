package contrib_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// insideWithOurs is inside, with our script and settings installed as they are.
func insideWithOurs(t *testing.T) bool {
	t.Helper()
	needPrivateRoot(t)
	var files map[string]string
	if os.Getenv(insideVariable) == "" {
		files = map[string]string{ourScript: read(t, script), settingsFile: read(t, "sysconfig/amavis")}
	}
	return inside(t, files)
}

// set appends lines to the settings.
func set(t *testing.T, path string, lines ...string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		fmt.Fprintln(file, line)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOurScript(t *testing.T) {
	if !insideWithOurs(t) {
		return
	}
	const lock = "/var/lock/subsys/amavis-milter"
	mustRun(t, 3, "is not running", ourScript, "status")
	mustRun(t, 0, "[  OK  ]", ourScript, "start")
	pid := mustServe(t, "unix", milterSocket)
	if got := strings.TrimSpace(read(t, milterPID)); got != strconv.Itoa(pid) {
		t.Errorf("the pid file names %s, not %d", got, pid)
	}
	read(t, lock)
	mustRun(t, 0, fmt.Sprintf("(%d) is running", pid), ourScript, "status")
	mustRun(t, 0, "already running", ourScript, "start")
	if got := mustServe(t, "unix", milterSocket); got != pid {
		t.Errorf("a second start made %d of %d", got, pid)
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for _, action := range []string{"restart", "reload", "force-reload", "try-restart", "condrestart"} {
		mustRun(t, 0, "[  OK  ]", ourScript, action)
		now := mustServe(t, "unix", milterSocket)
		if now == pid {
			t.Errorf("%s left the process as it was", action)
		}
		pid = now
	}

	mustRun(t, 0, "[  OK  ]", ourScript, "stop")
	mustBeGone(t)
	if _, err := os.Lstat(lock); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock file is left: %v", err)
	}
	mustRun(t, 3, "is not running", ourScript, "status")
	mustRun(t, 0, "not running", ourScript, "stop")
	mustRun(t, 0, "", ourScript, "try-restart")
	mustBeGone(t)
	if _, err := os.Lstat(amavisdPID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("amavisd was touched: %v", err)
	}
	mustRun(t, 2, "Usage:", ourScript)
	mustRun(t, 2, "Usage:", ourScript, "dance")
	mustRun(t, 0, "[  OK  ]", ourScript, "restart") // of what does not run
	mustServe(t, "unix", milterSocket)
}

// TestOurScriptAfterCrash: what a killed process leaves is told, and no obstacle.
func TestOurScriptAfterCrash(t *testing.T) {
	if !insideWithOurs(t) {
		return
	}
	mustRun(t, 0, "[  OK  ]", ourScript, "start")
	pid := mustServe(t, "unix", milterSocket)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process ends", func() bool { return syscall.Kill(pid, 0) != nil })
	mustRun(t, 1, "is dead, and its pid file", ourScript, "status")
	if err := os.Remove(milterPID); err != nil {
		t.Fatal(err)
	}
	mustRun(t, 2, "is dead, and its lock file", ourScript, "status")
	mustRun(t, 0, "[  OK  ]", ourScript, "start")
	mustServe(t, "unix", milterSocket)

	// A process that cannot end is killed, after the time that a stop may take.
	pid = mustServe(t, "unix", milterSocket)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	mustRun(t, 0, "killed", ourScript, "stop")
	if took := time.Since(begin); took < 9*time.Second {
		t.Errorf("killed after %v", took)
	}
	if pids := milters(t); len(pids) > 0 {
		t.Errorf("processes are left: %v", pids)
	}
	mustRun(t, 0, "[  OK  ]", ourScript, "start")
	mustServe(t, "unix", milterSocket)
}

// TestOurScriptFailures: the exit codes of the LSB, and the daemon's own words.
func TestOurScriptFailures(t *testing.T) {
	if !insideWithOurs(t) {
		return
	}
	settings := read(t, settingsFile)
	for _, test := range []struct {
		line string
		code int
		part string
	}{
		{`MILTER_FLAGS="--no-such-option"`, 6, "no-such-option"},
		{`MILTER_FLAGS="-g no-such-group"`, 6, `"no-such-group"`},
		{`MILTER_FLAGS="-g nogroup"`, 4, "make amavis a member"},
		{`MILTER_SOCKET=/root/milter.sock`, 4, "user amavis cannot"},
		{`MILTER_SOCKET=/var/none/milter.sock`, 1, "directory /var/none does not exist"},
		{`AMAVIS_ACCOUNT=no-such-account`, 6, "no account no-such-account"},
	} {
		set(t, settingsFile, test.line)
		out := mustRun(t, test.code, test.part, ourScript, "start")
		if !strings.Contains(out, "[ FAIL ]") || strings.Contains(out, "OK") {
			t.Errorf("%s: %s", test.line, out)
		}
		mustBeGone(t)
		if err := os.WriteFile(settingsFile, []byte(settings), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, action := range []string{"start", "stop", "restart", "reload"} {
		mustRun(t, 4, "only root can", "su", "-s", "/bin/sh", "-", "nobody", "-c", ourScript+" "+action)
	}
	mustRun(t, 4, "ask as root", "su", "-s", "/bin/sh", "-", "nobody", "-c", ourScript+" status")
	mustRun(t, 3, "is not running", "su", "-s", "/bin/sh", "-", "amavis", "-c", ourScript+" status")
	if err := os.Rename("/usr/sbin/amavis-milter", "/usr/sbin/elsewhere"); err != nil {
		t.Fatal(err)
	}
	mustRun(t, 5, "is not installed", ourScript, "start")
	mustRun(t, 3, "is not running", ourScript, "status")
}

// TestOurScriptSettings: each of the settings, from both files.
func TestOurScriptSettings(t *testing.T) {
	if !insideWithOurs(t) {
		return
	}
	set(t, settingsFile, `MILTER_SOCKET=inet:10025@127.0.0.1`, `MILTER_FLAGS='-x --on-failure "tempfail" -v'`)
	mustRun(t, 0, "[  OK  ]", ourScript, "start")
	pid := mustServe(t, "tcp", "127.0.0.1:10025")
	if got := strings.TrimSpace(read(t, milterPID)); got != strconv.Itoa(pid) {
		t.Errorf("the pid file names %s, not %d", got, pid)
	}
	arguments := strings.ReplaceAll(strings.TrimSuffix(read(t, fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00"), "\x00", " ")
	if want := "/usr/sbin/amavis-milter --pid-file " + milterPID + " -x --on-failure tempfail -v -p inet:10025@127.0.0.1"; arguments != want {
		t.Errorf("started as %q, want %q", arguments, want)
	}
	mustRun(t, 0, "[  OK  ]", ourScript, "stop")
	mustBeGone(t)

	// The second file goes on top; a pid file among the flags is found.
	const elsewhere = "/var/amavis/elsewhere.pid"
	set(t, "/etc/default/amavis-milter", `MILTER_SOCKET=/var/amavis/other.sock`, `MILTER_FLAGS="-g smmsp --pid-file `+elsewhere+`"`)
	mustRun(t, 0, "[  OK  ]", ourScript, "start")
	pid = mustServe(t, "unix", "/var/amavis/other.sock")
	if got := strings.TrimSpace(read(t, elsewhere)); got != strconv.Itoa(pid) {
		t.Errorf("the pid file names %s, not %d", got, pid)
	}
	var stat syscall.Stat_t
	if err := syscall.Stat("/var/amavis/other.sock", &stat); err != nil || stat.Gid != 902 || stat.Mode&0o777 != 0o660 {
		t.Errorf("group %d, mode %04o, %v; want smmsp and 0660", stat.Gid, stat.Mode&0o777, err)
	}
	mustRun(t, 0, "is running", ourScript, "status")
	mustRun(t, 0, "[  OK  ]", ourScript, "stop")
	mustBeGone(t)
}

// TestOurScriptLeavesOthers: neither a live socket of somebody else nor a process
// that a wrong pid file names is touched.
func TestOurScriptLeavesOthers(t *testing.T) {
	if !insideWithOurs(t) {
		return
	}
	listener, err := net.Listen("unix", milterSocket)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(milterSocket, 0o666); err != nil {
		t.Fatal(err)
	}
	mustRun(t, 1, "listens on socket "+milterSocket, ourScript, "start")
	conn, err := net.Dial("unix", milterSocket)
	if err != nil {
		t.Fatalf("the other's socket is gone: %v", err)
	}
	conn.Close()
	listener.Close()

	// The account owns the directory, and could name any process there.
	mustRun(t, 0, "", "su", "-s", "/bin/sh", "-", "amavis", "-c", "/usr/sbin/amavisd start")
	for _, file := range []string{amavisdPID, "/proc/self/stat"} {
		victim, _, _ := strings.Cut(strings.TrimSpace(read(t, file)), " ")
		pid, err := strconv.Atoi(victim)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(milterPID, []byte(victim+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		mustRun(t, 1, "is dead", ourScript, "status")
		mustRun(t, 0, "not running", ourScript, "stop")
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("process %d of %s: %v", pid, file, err)
		}
	}
	for _, text := range []string{"", "\n", "0\n", "-1\n", "1 2\n", "x; reboot\n", strings.Repeat("9", 9999)} {
		if err := os.WriteFile(milterPID, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		mustRun(t, 0, "not running", ourScript, "stop")
	}
	// Such a file is no obstacle to a start by its owner.
	if err := os.Chown(milterPID, amavisUID, amavisUID); err != nil {
		t.Fatal(err)
	}
	mustRun(t, 0, "[  OK  ]", ourScript, "start")
	mustServe(t, "unix", milterSocket)
	mustRun(t, 0, "[  OK  ]", ourScript, "stop")
}
