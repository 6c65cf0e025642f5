package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/config"
	"github.com/amavis-milter/amavis-milter/internal/filter"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

func accountIDs(t *testing.T) (uid, gid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		return os.Geteuid(), os.Getegid()
	}
	account, err := user.Lookup(testAccount)
	if err != nil {
		t.Fatalf("the tests need an account %s when they run as root: %v", testAccount, err)
	}
	uid, _ = strconv.Atoi(account.Uid)
	gid, _ = strconv.Atoi(account.Gid)
	return uid, gid
}

func TestHelpAndVersion(t *testing.T) {
	for args, want := range map[string]string{
		"-h":                   "Usage: amavis-milter [OPTION]...\n",
		"--help":               "Usage: amavis-milter [OPTION]...\n",
		"--version":            "amavis-milter ",
		"--version --nonsense": "amavis-milter ",
	} {
		stdout, stderr, code := output(t, program(strings.Fields(args)...))
		if !strings.HasPrefix(stdout, want) || stderr != "" || code != 0 {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
}

func TestMistakes(t *testing.T) {
	s := newSite(t, ampdptest.Continue())
	tests := []struct {
		args string
		code int
		want string
	}{
		{"-m x --nonsense", 64, "amavis-milter: unknown option \"--nonsense\": --help lists the options\n" +
			"amavis-milter: -m/--max-conns: \"x\": write a number from 0 to 100000\nTry 'amavis-milter --help'.\n"},
		{"-g no-such-group", 78, "amavis-milter: -g/--group: there is no group \"no-such-group\": write one that getent group lists\n"},
	}
	for _, tt := range tests {
		stdout, stderr, code := output(t, s.command(strings.Fields(tt.args)...))
		if stdout != "" || stderr != tt.want || code != tt.code {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", tt.args, code, stdout, stderr)
		}
	}
	s.isClean()
}

// TestStartFails: what goes wrong while the daemon starts is told by the process
// that was called, with the daemon's exit code, and leaves nothing behind.
func TestStartFails(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(s *site)
		code    int
		want    string
	}{
		{"work directory open to all", func(s *site) { os.Chmod(s.dir, 0o777) }, 78, "writable by everybody"},
		{"a file where the socket should be", func(s *site) { os.WriteFile(s.socket, nil, 0o600) }, 73, "not a socket"},
		{"somebody listens", func(s *site) {
			l, err := net.Listen("unix", s.socket)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, 69, "listens on socket"},
		{"a directory where the pid file should be", func(s *site) { os.Mkdir(s.pid, 0o700) }, 73, "pid"},
		{"a file where the spool should be", func(s *site) { os.WriteFile(filepath.Join(s.dir, "milter"), nil, 0o600) }, 78, "milter"},
	}
	for _, tt := range tests {
		for _, mode := range []string{"-D", "-f"} {
			t.Run(tt.name+" "+mode, func(t *testing.T) {
				s := newSite(t, ampdptest.Continue())
				tt.prepare(s)
				stdout, stderr, code := output(t, s.command(mode))
				lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
				if stdout != "" || code != tt.code || !strings.Contains(lines[len(lines)-1], tt.want) || !strings.HasPrefix(lines[len(lines)-1], "amavis-milter: ") {
					t.Errorf("exit code %d, want %d; stderr:\n%s", code, tt.code, stderr)
				}
				if _, err := os.Stat(s.pid); err == nil && tt.name != "a directory where the pid file should be" {
					t.Error("the pid file is left")
				}
			})
		}
	}
}

func TestMessageInTheForeground(t *testing.T) {
	s := newSite(t, ampdptest.Continue())
	p := s.start()
	m := s.mta()
	for range 2 {
		answer, err := m.SendMessage(message())
		if err != nil || answer.Code != 'a' && answer.Code != 'c' {
			t.Fatalf("%v, %v; log:\n%s", answer, err, p.log.String())
		}
		s.spoolIsEmpty()
	}
	info, err := os.Stat(s.socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	p.signal(syscall.SIGHUP)
	await(t, "HUP is logged", func() bool { return strings.Contains(p.log.String(), "signal=HUP") })
	if _, err := s.mta().SendMessage(message()); err != nil {
		t.Errorf("after HUP: %v", err)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)

	log := p.log.String()
	if n := strings.Count(log, " info 4BxYz01: "); n != 3 {
		t.Errorf("%d summary lines for 3 messages:\n%s", n, log)
	}
	start := regexp.MustCompile(`(?m)^\S+ info serving version=\S+ socket=local:` + s.socket + ` amavisd=local:` + s.amavisd + ` work_dir=` + s.dir + ` max_conns=0 max_wait=5m0s .*timeout=2h0m10s$`)
	if !start.MatchString(log) {
		t.Errorf("no start line:\n%s", log)
	}
}

// TestFewFiles: a hard limit on open files that does not allow as many sessions as
// are wanted is said at start, and those that it allows are the limit.
func TestFewFiles(t *testing.T) {
	s := newSite(t, ampdptest.Continue())
	const sessions, enough = 100, ownFiles + 100*filesPerSession
	for limit, warns := range map[int]bool{enough - 1: true, enough: false, enough + 1: false} {
		p := s.run(withFiles(limit, s.command("-f", "--max-sessions", strconv.Itoa(sessions))))
		said := fmt.Sprintf(" warn the limit on open files allows fewer sessions than --max-sessions: raise the hard limit (ulimit -Hn, LimitNOFILE) open_files=%d sessions=99 max_sessions=100", limit)
		if got := strings.Contains(p.log.String(), said); got != warns {
			t.Errorf("limit %d: log:\n%s", limit, p.log.String())
		}
		p.signal(syscall.SIGTERM)
		p.exits(0)
	}
}

// withFiles has a command run with a hard limit on open files.
func withFiles(limit int, cmd *exec.Cmd) *exec.Cmd {
	cmd.Path = "/bin/sh"
	cmd.Args = append([]string{"sh", "-c", "ulimit -n " + strconv.Itoa(limit) + ` && exec "$@"`, "sh"}, cmd.Args...)
	return cmd
}

// TestFilesSuffice: where descriptors are the limit, as many sessions as they allow have a
// large message under way each, who comes after them is refused with an answer, and they
// end as ever.
func TestFilesSuffice(t *testing.T) {
	s := newSite(t, ampdptest.Continue())
	const sessions = 300
	p := s.run(withFiles(ownFiles+sessions*filesPerSession, s.command("-f")))
	large := message()
	var inside []*miltertest.MTA
	for i := range sessions {
		m := s.mta()
		large.QueueID = fmt.Sprintf("Q%d", i)
		if err := errors.Join(m.SendUpTo(large, "body"), m.Send('B', make([]byte, 60<<10)), m.Send('B', make([]byte, 60<<10))); err != nil {
			t.Fatal(err)
		}
		inside = append(inside, m)
	}
	await(t, "all mail files", func() bool { return s.stored() == sessions })
	for range 2 {
		if _, err := s.mta().SendMessage(message()); err == nil || !strings.Contains(err.Error(), "451 4.3.2") {
			t.Errorf("beyond the limit: %v", err)
		}
	}
	for _, m := range inside {
		answer, err := m.EOM()
		if err != nil || answer.Code != 'a' && answer.Code != 'c' {
			t.Fatalf("%v, %v; log:\n%s", answer, err, p.log.String())
		}
	}
	s.spoolIsEmpty()
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

// TestUnpackedPartsAreRemoved: what amavisd's helpers unpack may have any mode, and
// must go whether or not we changed our user.
func TestUnpackedPartsAreRemoved(t *testing.T) {
	var s *site
	s = newSite(t, func(c *ampdptest.Conn) {
		r, err := c.ReadRequest()
		if err != nil {
			return
		}
		parts := filepath.Join(r.Get("tempdir"), "parts")
		for _, dir := range []string{parts, filepath.Join(parts, "closed")} {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Error(err)
			}
			s.give(dir)
		}
		if err := os.WriteFile(filepath.Join(parts, "closed", "x"), nil, 0); err != nil {
			t.Error(err)
		}
		if err := os.Chmod(filepath.Join(parts, "closed"), 0); err != nil {
			t.Error(err)
		}
		c.Unread(r)
		ampdptest.Continue()(c)
	})
	p := s.start()
	if answer, err := s.mta().SendMessage(message()); err != nil || answer.Code != 'a' && answer.Code != 'c' {
		t.Fatalf("%v, %v", answer, err)
	}
	s.spoolIsEmpty()
	p.signal(syscall.SIGTERM)
	p.exits(0)
	if log := p.log.String(); strings.Contains(log, " error ") {
		t.Error(log)
	}
}

func TestDaemon(t *testing.T) {
	s := newSite(t, ampdptest.Continue())
	_, gid := accountIDs(t)
	args := []string{"-g", strconv.Itoa(gid), "--socket-mode", "0666"}
	stdout, stderr, code := output(t, s.command(args...))
	if stdout != "" || code != 0 {
		t.Fatalf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	pid := s.readPID()
	t.Cleanup(func() {
		if alive(pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	if answer, err := s.mta().SendMessage(message()); err != nil || answer.Code != 'a' && answer.Code != 'c' {
		t.Fatalf("%v, %v", answer, err)
	}
	info, err := os.Stat(s.socket)
	if err != nil || info.Mode().Perm() != 0o666 || int(info.Sys().(*syscall.Stat_t).Gid) != gid {
		t.Errorf("the socket: %v, %v", info, err)
	}

	_, stderr, code = output(t, s.command(args...))
	if code != 69 || !strings.Contains(stderr, "("+strconv.Itoa(pid)+")") {
		t.Errorf("a second instance: exit code %d, %q", code, stderr)
	}
	if !alive(pid) || s.readPID() != pid {
		t.Fatal("the second instance has done something to the first")
	}

	syscall.Kill(pid, syscall.SIGHUP)
	if answer, err := s.mta().SendMessage(message()); err != nil || answer.Code != 'a' && answer.Code != 'c' {
		t.Fatalf("after HUP: %v, %v", answer, err)
	}
	syscall.Kill(pid, syscall.SIGTERM)
	await(t, "the daemon ends", func() bool { return !alive(pid) })
	s.isClean()
}

// TestDrain: after TERM a message that is being scanned gets its verdict, and the
// socket is gone meanwhile.
func TestDrain(t *testing.T) {
	release := make(chan struct{})
	s := newSite(t, ampdptest.Hold(release, ampdptest.Continue()))
	p := s.start()
	idle := s.mta()
	answers := s.scanning()
	p.signal(syscall.SIGTERM)
	await(t, "the socket is unlinked", func() bool { _, err := os.Lstat(s.socket); return err != nil })
	if _, _, err := idle.Receive(); err == nil {
		t.Error("a connection between messages is still open")
	}
	close(release)
	if answer := <-answers; answer.Code != 'a' && answer.Code != 'c' {
		t.Errorf("got %v", answer)
	}
	p.exits(0)
}

// TestSecondSignal: a second TERM tempfails what is being scanned, at once.
func TestSecondSignal(t *testing.T) {
	s := newSite(t, ampdptest.Hang())
	p := s.start()
	answers := s.scanning()
	start := time.Now()
	p.signal(syscall.SIGTERM)
	await(t, "the first signal is logged", func() bool { return strings.Contains(p.log.String(), "signal=terminated") })
	p.signal(syscall.SIGINT)
	if answer := <-answers; answer.Code != 't' && !(answer.Code == 'y' && strings.HasPrefix(answer.Reply, "4")) {
		t.Errorf("got %v", answer)
	}
	p.exits(0)
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("took %v", took)
	}
}

// scanning sends a message up to the point where amavisd has it, and returns where
// its verdict will come.
func (s *site) scanning() <-chan miltertest.Answer {
	s.t.Helper()
	m := s.mta()
	answers := make(chan miltertest.Answer, 1)
	go func() {
		defer close(answers)
		answer, err := m.SendMessage(message())
		if err != nil {
			s.t.Errorf("sending a message: %v", err)
		}
		answers <- answer
	}()
	await(s.t, "amavisd has the request", func() bool { return len(s.scanner.Requests()) > 0 })
	return answers
}

// TestWordsAgree: config and filter may not know each other; their words are the
// same all the same.
func TestWordsAgree(t *testing.T) {
	var causes []filter.Cause
	for _, c := range config.Causes() {
		causes = append(causes, filter.Cause(c))
	}
	if !reflect.DeepEqual(causes, filter.Causes()) {
		t.Errorf("causes: %v, %v", causes, filter.Causes())
	}
	for _, action := range filter.Actions() {
		cfg, err := config.Parse([]string{"amavis-milter", "-w", "/", "--on-failure", string(action)}, plainEnv())
		if err != nil || filter.Action(cfg.OnFailure[config.CauseBusy]) != action {
			t.Errorf("%s: %v", action, err)
		}
	}
	cfg, err := config.Parse([]string{"amavis-milter", "-w", "/", "-P"}, plainEnv())
	if err != nil {
		t.Fatal(err)
	}
	for cause, action := range filter.PassOnFailure() {
		if filter.Action(cfg.OnFailure[config.Cause(cause)]) != action {
			t.Errorf("-P: %s is %s", cause, cfg.OnFailure[config.Cause(cause)])
		}
	}
}

// plainEnv is this machine, but with us as a user who is not root.
func plainEnv() config.Env {
	env := config.SystemEnv()
	env.Euid = 1
	return env
}
