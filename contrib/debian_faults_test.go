package contrib_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestDebianAfterCrash: what a killed daemon leaves is no obstacle to the script,
// not even a socket that it has given to another user.
func TestDebianAfterCrash(t *testing.T) {
	if !insideDebian(t) {
		return
	}
	settings := read(t, debianSettings)
	for _, lines := range [][]string{nil, {`MILTERSOCKETOWNER="postfix:postfix"`, `MILTERSOCKETMODE="0660"`}, {`MILTERSOCKETOWNER="root:root"`, `MILTERSOCKETMODE="0600"`}} {
		if err := os.WriteFile(debianSettings, []byte(settings), 0o644); err != nil {
			t.Fatal(err)
		}
		set(t, debianSettings, lines...)
		mustRun(t, 0, "Starting", debianScript, "start")
		pid := debianServes(t, debianPID, amavisUID, "unix", debianSocket)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the process ends", func() bool { return syscall.Kill(pid, 0) != nil })
		for _, path := range []string{debianSocket, debianPID} {
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("nothing was left: %v", err)
			}
		}
		mustRun(t, 1, "amavisd-milter is not running", debianScript, "status")
		mustRun(t, 0, "Starting amavisd-milter Daemon: amavisd-milter.", debianScript, "start")
		debianServes(t, debianPID, amavisUID, "unix", debianSocket)

		// A live one is not taken, whoever owns its socket.
		out := mustRun(t, 69, "listens on socket "+debianSocket, "/usr/sbin/amavisd-milter", "--user", "amavis", "-p", "/run/second.pid")
		if !strings.HasPrefix(out, "amavisd-milter: ") {
			t.Errorf("%s", out)
		}
		mustRun(t, 0, "Stopping", debianScript, "stop")
		debianGone(t, debianSocket, debianPID)
	}
}

// TestDebianFailures: the script returns 0 whatever happens; the reason is on the
// terminal, and nothing is left.
func TestDebianFailures(t *testing.T) {
	if !insideDebian(t) {
		return
	}
	settings := read(t, debianSettings)
	for _, test := range []struct {
		lines []string
		part  string
	}{
		{[]string{`EXTRAPARAMS="-Z"`}, "amavisd-milter: unknown option \"-Z\": --help lists the options\nTry 'amavisd-milter --help'.\n"},
		{[]string{`EXTRAPARAMS="-m many"`}, "amavisd-milter: -m/--max-conns: \"many\": write a number"},
		{[]string{"WORKINGDIR=/var/none"}, "amavisd-milter: -w/--work-dir \"/var/none\" does not exist"},
		{[]string{"AMAVISSOCKET=" + debianSocket}, "amavisd-milter: -s/--socket \"local:" + debianSocket + "\" and -S/--amavisd-socket"},
		{[]string{"MILTERSOCKET=inet:127.0.0.1:60001"}, "amavisd-milter: -s/--socket: \"inet:127.0.0.1:60001\" is Postfix's order: write \"inet:60001@127.0.0.1\"\n"},
		{[]string{"SYSTEMUSER=root", "WORKINGDIR=/root"}, "amavisd-milter: running as root"},
		{[]string{"PIDFILE=/run/nowhere/deep/milter.pid"}, "amavisd-milter: directory /run/nowhere/deep does not exist"},
	} {
		if err := os.WriteFile(debianSettings, []byte(settings), 0o644); err != nil {
			t.Fatal(err)
		}
		set(t, debianSettings, test.lines...)
		out := mustRun(t, 0, test.part, debianScript, "start")
		if !strings.Contains(out, "failed!") {
			t.Errorf("%s: %s", test.lines, out)
		}
		debianGone(t, debianSocket, debianPID)
	}
}

// TestDefaultPIDFile: somebody who starts the program by hand and types no pid file
// is not refused because of one; the one who types it is.
func TestDefaultPIDFile(t *testing.T) {
	if !insideDebian(t) {
		return
	}
	log := newSyslog(t)
	const program, other = "/usr/sbin/amavisd-milter", "/var/lib/amavis/second.sock"
	asAmavis := func(command string) (string, int) {
		return run(t, "setpriv", "--reuid", "amavis", "--regid", "amavis", "--init-groups", "sh", "-c", command)
	}
	stop := func(pid int) {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the process ends", func() bool { return syscall.Kill(pid, 0) != nil })
	}
	// No directory for it; it is not ours; both with a warning that says so.
	for directory, reason := range map[string]string{"": "directory /var/run/amavis does not exist: create it", "root's": "user amavis cannot write to directory /var/run/amavis"} {
		if directory != "" {
			if err := os.Mkdir("/run/amavis", 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if out, code := asAmavis(program); code != 0 || out != "" {
			t.Fatalf("code %d: %s", code, out)
		}
		pid := mustServeAs(t, debianName, amavisUID, "unix", debianSocket)
		if lines := log.take(t, "serving"); !strings.Contains(lines, "there is no pid file") || !strings.Contains(lines, reason) {
			t.Errorf("log:\n%s", lines)
		}
		if out, code := asAmavis(program + " -s " + other + " -p " + debianPID); code != 73 && code != 77 || !strings.Contains(out, reason) {
			t.Errorf("one that was asked for: code %d: %s", code, out)
		}
		stop(pid)
		debianGone(t, debianSocket, debianPID, other)
		if directory != "" {
			if err := os.Remove("/run/amavis"); err != nil {
				t.Fatal(err)
			}
		}
	}

	// Beside the service, which goes on to be what the script stops.
	mustRun(t, 0, "Starting", debianScript, "start")
	service := debianServes(t, debianPID, amavisUID, "unix", debianSocket)
	log.take(t, "serving")
	if out, code := asAmavis(program + " -s " + other); code != 0 || out != "" {
		t.Fatalf("code %d: %s", code, out)
	}
	if lines := log.take(t, "serving"); !strings.Contains(lines, fmt.Sprintf("belongs to a running instance (%d)", service)) {
		t.Errorf("log:\n%s", lines)
	}
	pids := processes(t, debianName)
	if len(pids) != 2 || strings.TrimSpace(read(t, debianPID)) != fmt.Sprint(service) {
		t.Fatalf("processes %v, pid file %s", pids, read(t, debianPID))
	}
	mustRun(t, 0, "Stopping", debianScript, "stop")
	second := mustServeAs(t, debianName, amavisUID, "unix", other)
	stop(second)
	debianGone(t, debianSocket, debianPID, other)
}
