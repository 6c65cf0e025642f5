package contrib_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// The tests of this file run Debian's own init script of amavisd-milter, untouched,
// with our program under that name.

const (
	// debianVariable names a directory in which Debian's packages amavisd-milter and
	// dpkg are unpacked, for hosts that do not have them.
	debianVariable = "AMAVIS_MILTER_DEBIAN"

	debianScript   = "/etc/init.d/amavisd-milter"
	debianSettings = "/etc/default/amavisd-milter"
	debianSocket   = "/var/lib/amavis/amavisd-milter.sock"
	debianPID      = "/var/run/amavis/amavisd-milter.pid"
	debianName     = "amavisd-milter"

	startStopDaemon = "/usr/sbin/start-stop-daemon"

	// Accounts, as in testdata/private-root.
	postfixID = 903
	vscanID   = 904
)

// fromDebian returns a file of a Debian package.
func fromDebian(t *testing.T, packageName, path string) string {
	t.Helper()
	for _, root := range []string{os.Getenv(debianVariable), filepath.Join("..", "build", "lab", "root"), "/"} {
		if text, err := os.ReadFile(filepath.Join(root, path)); root != "" && err == nil {
			return string(text)
		}
	}
	t.Skipf("needs %s of Debian's package %s (set %s to where it is unpacked)", path, packageName, debianVariable)
	return ""
}

// insideDebian is inside, with Debian's script and settings as they are.
func insideDebian(t *testing.T) bool {
	t.Helper()
	needPrivateRoot(t)
	var files map[string]string
	if os.Getenv(insideVariable) == "" {
		if _, err := os.Stat("/lib/lsb/init-functions"); err != nil {
			t.Skip("needs /lib/lsb/init-functions (Debian package sysvinit-utils)")
		}
		files = map[string]string{
			debianScript:   fromDebian(t, "amavisd-milter", debianScript),
			debianSettings: fromDebian(t, "amavisd-milter", debianSettings),
		}
		if _, err := exec.LookPath("start-stop-daemon"); err != nil {
			files[startStopDaemon] = fromDebian(t, "dpkg", startStopDaemon)
		}
	}
	return inside(t, files)
}

// syslog collects what is sent to /dev/log.
type syslog struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func newSyslog(t *testing.T) *syslog {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/dev/log", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("/dev/log", 0o666); err != nil {
		t.Fatal(err)
	}
	s := &syslog{}
	go func() {
		const most = 64 << 10
		for buffer := make([]byte, most); ; {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.lines.Write(buffer[:n])
			s.lines.WriteByte('\n')
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() { conn.Close() })
	return s
}

// take returns what has come so far, once a part of it has, and forgets it.
func (s *syslog) take(t *testing.T, part string) string {
	t.Helper()
	var lines string
	eventually(t, part+" in syslog", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if lines = s.lines.String(); !strings.Contains(lines, part) {
			return false
		}
		s.lines.Reset()
		return true
	})
	return lines
}

// debianServes checks the daemon that the script has started, and returns its id.
func debianServes(t *testing.T, pidFile string, uid int, network, address string) int {
	t.Helper()
	pid := mustServeAs(t, debianName, uid, network, address)
	if got := strings.TrimSpace(read(t, pidFile)); got != strconv.Itoa(pid) {
		t.Errorf("the pid file names %s, not %d", got, pid)
	}
	if argv0, _, _ := strings.Cut(read(t, fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00"); argv0 != "/usr/sbin/amavisd-milter" {
		t.Errorf("argv[0] is %q", argv0)
	}
	return pid
}

// debianGone checks that nothing is left after a stop.
func debianGone(t *testing.T, paths ...string) {
	t.Helper()
	if pids := processes(t, debianName); len(pids) > 0 {
		t.Errorf("processes are left: %v", pids)
	}
	for _, path := range paths {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}

// owned checks owner, group and mode of a file.
func owned(t *testing.T, path string, uid, gid, mode uint32) {
	t.Helper()
	var stat syscall.Stat_t
	if err := syscall.Lstat(path, &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Uid != uid || stat.Gid != gid || stat.Mode&0o777 != mode {
		t.Errorf("%s has owner %d:%d and mode %04o, want %d:%d and %04o", path, stat.Uid, stat.Gid, stat.Mode&0o777, uid, gid, mode)
	}
}

func TestDebianScript(t *testing.T) {
	if !insideDebian(t) {
		return
	}
	log := newSyslog(t)
	mustRun(t, 3, "amavisd-milter is not running", debianScript, "status")
	mustRun(t, 0, "Starting amavisd-milter Daemon: amavisd-milter.", debianScript, "start")
	pid := debianServes(t, debianPID, amavisUID, "unix", debianSocket)
	owned(t, debianSocket, amavisUID, amavisUID, 0o660)
	owned(t, debianPID, amavisUID, amavisUID, 0o644)
	lines := log.take(t, "serving")
	for _, part := range []string{
		fmt.Sprintf(" amavisd-milter[%d]: serving ", pid), " socket=local:" + debianSocket + " ", " amavisd=local:/var/lib/amavis/amavisd.sock ",
		" work_dir=/var/lib/amavis/tmp ", " max_conns=0 ", " max_wait=5m0s ", " amavisd_timeout=10m0s ", " timeout=10m0s",
	} {
		if !strings.Contains(lines, part) {
			t.Errorf("%q is not in the log:\n%s", part, lines)
		}
	}
	if strings.Contains(lines, "amavis-milter[") {
		t.Errorf("another ident:\n%s", lines)
	}

	mustRun(t, 0, "amavisd-milter is running", debianScript, "status")
	mustRun(t, 0, "already started", debianScript, "start")
	if again := debianServes(t, debianPID, amavisUID, "unix", debianSocket); again != pid {
		t.Errorf("a second start made %d of %d", again, pid)
	}
	for _, action := range []string{"restart", "force-reload"} {
		mustRun(t, 0, "Starting amavisd-milter Daemon: amavisd-milter.", debianScript, action)
		now := debianServes(t, debianPID, amavisUID, "unix", debianSocket)
		if now == pid {
			t.Errorf("%s left the process as it was", action)
		}
		pid = now
	}
	mustRun(t, 0, "Stopping amavisd-milter Daemon: amavisd-milter.", debianScript, "stop")
	debianGone(t, debianSocket, debianPID)
	mustRun(t, 3, "amavisd-milter is not running", debianScript, "status")
	mustRun(t, 0, "already stopped", debianScript, "stop")
	mustRun(t, 1, "Usage: "+debianScript, debianScript, "dance")

	// As other scripts start and stop it: by its bare name.
	mustRun(t, 0, "", "su", "-s", "/bin/sh", "-", "amavis", "-c", "PATH=/usr/sbin:$PATH; amavisd-milter")
	pid = mustServeAs(t, debianName, amavisUID, "unix", debianSocket)
	mustRun(t, 0, "", "pkill", "-x", debianName)
	eventually(t, "the process ends", func() bool { return syscall.Kill(pid, 0) != nil })
	debianGone(t, debianSocket, debianPID)
}

// debianSetting is what lines of the settings come to.
type debianSetting struct {
	lines   []string
	pidFile string
	uid     int
	socket  string   // as the option -s has it
	logged  []string // parts of the line at start
	owner   uint32   // of a local socket, and its group
	mode    uint32   // of a local socket
}

func (s *debianSetting) has(name string) bool {
	return slices.ContainsFunc(s.lines, func(line string) bool { return strings.HasPrefix(line, name+"=") })
}

// TestDebianSettings: each variable of the settings, one or several at a time.
func TestDebianSettings(t *testing.T) {
	if !insideDebian(t) {
		return
	}
	log := newSyslog(t)
	const chroot, tcp = "/var/spool/postfix/amavis/amavis.sock", "inet:60001@127.0.0.1"
	tests := []debianSetting{
		{[]string{"PIDFILE=/var/run/other/milter.pid"}, "/var/run/other/milter.pid", amavisUID, debianSocket, nil, amavisUID, 0o660},
		{[]string{"MILTERSOCKET=" + chroot}, debianPID, amavisUID, chroot, nil, amavisUID, 0o660},
		{[]string{"MILTERSOCKET=" + tcp}, debianPID, amavisUID, tcp, []string{" socket=inet:60001@127.0.0.1 "}, 0, 0},
		{[]string{"AMAVISSOCKET=/var/lib/amavis/other.sock"}, debianPID, amavisUID, debianSocket, []string{" amavisd=local:/var/lib/amavis/other.sock "}, amavisUID, 0o660},
		{[]string{"WORKINGDIR=/var/lib/amavis"}, debianPID, amavisUID, debianSocket, []string{" work_dir=/var/lib/amavis "}, amavisUID, 0o660},
		{
			[]string{`EXTRAPARAMS="-B -D client -m 4 -M 90 -P -q 20 -t 301 -T 302 -d 1"`}, debianPID, amavisUID, debianSocket,
			[]string{" max_conns=4 ", " max_wait=1m30s ", " amavisd_timeout=5m2s ", " timeout=5m1s"}, amavisUID, 0o660,
		},
		{
			[]string{`EXTRAPARAMS="--skip size>5000 --policy-bank auth=ORIGINATING -d 0"`}, debianPID, amavisUID, debianSocket,
			[]string{" skip=size>5000 ", `policy_bank="auth=ORIGINATING" `}, amavisUID, 0o660,
		},
		{[]string{`MILTERSOCKETOWNER="postfix:postfix"`}, debianPID, amavisUID, debianSocket, nil, postfixID, 0o660},
		{[]string{`MILTERSOCKETMODE="0666"`}, debianPID, amavisUID, debianSocket, nil, amavisUID, 0o666},
		{
			[]string{"MILTERSOCKET=" + chroot, `MILTERSOCKETOWNER="postfix:postfix"`, `MILTERSOCKETMODE="0600"`},
			debianPID, amavisUID, chroot, nil, postfixID, 0o600,
		},
		{[]string{"MILTERSOCKET=" + tcp, `MILTERSOCKETOWNER="postfix:postfix"`, `MILTERSOCKETMODE="0660"`}, debianPID, amavisUID, tcp, nil, 0, 0},
		{
			[]string{"SYSTEMUSER=vscan", "WORKINGDIR=/var/vscan", "MILTERSOCKET=/var/vscan/milter.sock", "AMAVISSOCKET=/var/vscan/amavisd.sock"},
			debianPID, vscanID, "/var/vscan/milter.sock", []string{" amavisd=local:/var/vscan/amavisd.sock ", " work_dir=/var/vscan "}, vscanID, 0o660,
		},
	}
	if err := errors.Join(os.Mkdir("/var/vscan", 0o750), os.Chown("/var/vscan", vscanID, vscanID)); err != nil {
		t.Fatal(err)
	}
	settings := read(t, debianSettings)
	for _, name := range []string{"SYSTEMUSER", "PIDFILE", "MILTERSOCKET", "AMAVISSOCKET", "WORKINGDIR", "EXTRAPARAMS", "MILTERSOCKETOWNER", "MILTERSOCKETMODE"} {
		if !strings.Contains(settings, "\n#"+name+"=") || !slices.ContainsFunc(tests, func(tt debianSetting) bool { return tt.has(name) }) {
			t.Errorf("%s is not in Debian's settings, or not in this test", name)
		}
	}
	for _, tt := range tests {
		if err := os.WriteFile(debianSettings, []byte(settings), 0o644); err != nil {
			t.Fatal(err)
		}
		set(t, debianSettings, tt.lines...)
		mustRun(t, 0, "Starting amavisd-milter Daemon: amavisd-milter.", debianScript, "start")
		network, address := "unix", tt.socket
		if tt.socket == tcp {
			network, address = "tcp", "127.0.0.1:60001"
		}
		debianServes(t, tt.pidFile, tt.uid, network, address)
		if network == "unix" {
			owned(t, tt.socket, tt.owner, tt.owner, tt.mode)
		}
		lines := log.take(t, "serving")
		for _, part := range tt.logged {
			if !strings.Contains(lines, part) {
				t.Errorf("%s: %q is not in the log:\n%s", tt.lines, part, lines)
			}
		}
		mustRun(t, 0, "is running", debianScript, "status")
		mustRun(t, 0, "already started", debianScript, "start")
		mustRun(t, 0, "Stopping amavisd-milter Daemon: amavisd-milter.", debianScript, "stop")
		debianGone(t, debianSocket, chroot, tt.pidFile)
		if t.Failed() {
			t.Fatalf("with %s", tt.lines)
		}
	}
}
