package contrib_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// readmeVariable names a README.milter, plain or gzipped, for hosts that cannot
	// have Debian's package.
	readmeVariable = "AMAVIS_MILTER_README"

	// patience is when a test gives up waiting.
	patience = 30 * time.Second

	milterSocket = "/var/amavis/amavis-milter.sock"
	milterPID    = "/var/amavis/amavis-milter.pid"
	amavisdPID   = "/var/amavis/amavisd.pid"
	settingsFile = "/etc/sysconfig/amavis"
	ourScript    = "/etc/init.d/amavis-milter"
	oldScript    = "/etc/init.d/amavis"
	amavisUID    = 901 // as in testdata/private-root
)

// readmeScript returns the init script that README.milter of amavisd-new prints.
func readmeScript(t *testing.T) string {
	t.Helper()
	_, rest, ok := strings.Cut(readme(t), ">>>START ")
	if ok {
		_, rest, ok = strings.Cut(rest, "\n")
	}
	text, _, ended := strings.Cut(rest, "<<<END<<<")
	if !ok || !ended || !strings.HasPrefix(text, "#!/bin/sh\n") {
		t.Fatal("README.milter has no script between >>>START and <<<END<<<")
	}
	return text
}

// readme finds README.milter: named by the environment, installed, or in Debian's
// package, which is fetched into the build directory but not installed.
func readme(t *testing.T) string {
	t.Helper()
	const inPackage = "usr/share/doc/amavisd-new/README.milter.gz"
	cache := filepath.Join("..", "build", "readme")
	for _, path := range []string{os.Getenv(readmeVariable), "/" + inPackage, filepath.Join(cache, inPackage)} {
		if text, err := readMaybeGzip(path); err == nil {
			return text
		}
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-ec", `apt-get download amavisd-new; for deb in amavisd-new_*.deb; do dpkg-deb -x "$deb" unpacked; done
mkdir -p "$(dirname "$1")"; mv "unpacked/$1" "$1"; rm -rf unpacked *.deb`, "sh", inPackage)
	cmd.Dir = cache
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("needs README.milter of Debian's package amavisd-new (set %s to its path; apt-get download: %v: %s)", readmeVariable, err, bytes.TrimSpace(out))
	}
	text, err := readMaybeGzip(filepath.Join(cache, inPackage))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func readMaybeGzip(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(content, []byte{0x1f, 0x8b}) {
		return string(content), err
	}
	reader, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(reader)
	return string(text), err
}

// run runs a command; a caller that reads its output to the end must not wait for
// the daemon.
func run(t *testing.T, name string, args ...string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%s %v: %v, %v\n%s", name, args, err, ctx.Err(), out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// mustRun runs a command that is to end with a code and to say something.
func mustRun(t *testing.T, code int, part, name string, args ...string) string {
	t.Helper()
	out, got := run(t, name, args...)
	if got != code || !strings.Contains(out, part) {
		t.Fatalf("%s %s: code %d, want %d, with %q\n%s", name, strings.Join(args, " "), got, code, part, out)
	}
	return out
}

// milters returns the processes that init scripts take for us.
func milters(t *testing.T) []int {
	t.Helper()
	return processes(t, "amavis-milter")
}

// processes returns the processes of a name.
func processes(t *testing.T, name string) []int {
	t.Helper()
	out, _ := run(t, "pgrep", "-x", name)
	var pids []int
	for _, field := range strings.Fields(out) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// mustServe connects at once, without another try, and returns the one process
// that serves.
func mustServe(t *testing.T, network, address string) int {
	t.Helper()
	return mustServeAs(t, "amavis-milter", amavisUID, network, address)
}

// mustServeAs is mustServe for a process of another name or user.
func mustServeAs(t *testing.T, name string, uid int, network, address string) int {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatalf("nobody serves: %v", err)
	}
	conn.Close()
	pids := processes(t, name)
	if len(pids) != 1 {
		t.Fatalf("%d processes of that name: %v", len(pids), pids)
	}
	status := read(t, fmt.Sprintf("/proc/%d/status", pids[0]))
	if want := fmt.Sprintf("\nUid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", uid); !strings.Contains(status, want) {
		t.Errorf("the process does not run as user %d:\n%s", uid, status)
	}
	return pids[0]
}

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("waited %v in vain: %s", patience, what)
		case <-tick.C:
		}
	}
}

// mustBeGone checks that nothing is left of a daemon that has ended.
func mustBeGone(t *testing.T) {
	t.Helper()
	if pids := milters(t); len(pids) > 0 {
		t.Errorf("processes are left: %v", pids)
	}
	for _, path := range []string{milterSocket, milterPID} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}

// giveShell gives the account a shell to log in with, which the old script needs.
func giveShell(t *testing.T) {
	t.Helper()
	mustRun(t, 0, "", "sed", "-i", `/^amavis:/s|:[^:]*$|:/bin/sh|`, "/etc/passwd")
}

// TestReadmeScript: the script that administrators have had since 2003 drives us as
// it drove the old program, with the settings file of ours.
func TestReadmeScript(t *testing.T) {
	needPrivateRoot(t)
	var files map[string]string
	if os.Getenv(insideVariable) == "" {
		files = map[string]string{oldScript: readmeScript(t), settingsFile: read(t, "sysconfig/amavis")}
	}
	if !inside(t, files) {
		return
	}
	giveShell(t)
	mustRun(t, 0, "[  OK  ]", oldScript, "start")
	first := mustServe(t, "unix", milterSocket)
	if info, err := os.Lstat(milterSocket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode of the socket: %v, %v", info.Mode(), err)
	}
	read(t, amavisdPID)
	read(t, "/var/lock/subsys/amavis")

	// It ends with the code of its last test, whatever has happened.
	restarted, _ := run(t, oldScript, "restart")
	if strings.Count(restarted, "[  OK  ]") != 2 {
		t.Errorf("restart: %s", restarted)
	}
	if second := mustServe(t, "unix", milterSocket); second == first {
		t.Error("the process is the same after a restart")
	}

	stopped, _ := run(t, oldScript, "stop")
	if !strings.Contains(stopped, "[  OK  ]") {
		t.Errorf("stop: %s", stopped)
	}
	eventually(t, "the process ends", func() bool { return len(milters(t)) == 0 })
	mustBeGone(t)
	if _, err := os.Lstat("/var/lock/subsys/amavis"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock file is left: %v", err)
	}
}

// TestReadmeScriptWithoutSettings: no file in sysconfig, and no amavisd stopped it.
func TestReadmeScriptWithoutSettings(t *testing.T) {
	needPrivateRoot(t)
	var files map[string]string
	if os.Getenv(insideVariable) == "" {
		files = map[string]string{oldScript: readmeScript(t)}
	}
	if !inside(t, files) {
		return
	}
	giveShell(t)
	mustRun(t, 0, "[  OK  ]", oldScript, "start")
	pid := mustServe(t, "unix", milterSocket)
	mustRun(t, 0, "", "pkill", "amavis-milter")
	eventually(t, "the process ends", func() bool { return syscall.Kill(pid, 0) != nil })
	mustBeGone(t)
}

// TestForeground runs the program as the account, by hand, under -d.
func TestForeground(t *testing.T) {
	needPrivateRoot(t)
	if !inside(t, nil) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, "su", "-s", "/bin/sh", "-", "amavis", "-c", "exec /usr/sbin/amavis-milter -d -p local:"+milterSocket)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it serves", func() bool {
		conn, err := net.Dial("unix", milterSocket)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	pid := mustServe(t, "unix", milterSocket)
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if again := mustServe(t, "unix", milterSocket); again != pid {
		t.Errorf("HUP made %d of %d", again, pid)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v\n%s", err, log.String())
	}
	if log.Len() == 0 {
		t.Error("nothing on stderr")
	}
	mustBeGone(t)
}
