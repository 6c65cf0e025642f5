package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// programVariable turns the test binary into amavis-milter.
const programVariable = "AMAVIS_MILTER_TEST_PROGRAM"

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// testAccount is who the program runs as if the tests run as root: any account that
// exists everywhere and is not root.
const testAccount = "nobody"

// site is a place for one instance: its work directory with everything in it.
type site struct {
	t                    *testing.T
	dir                  string
	socket, amavisd, pid string
	scanner              *ampdptest.Server
}

func newSite(t *testing.T, h ampdptest.Handler) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "am") // t.TempDir's cannot be entered by others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: dir, socket: filepath.Join(dir, "milter.sock"), amavisd: filepath.Join(dir, "amavisd.sock"), pid: filepath.Join(dir, "pid")}
	if s.scanner, err = ampdptest.Listen("unix", s.amavisd, h); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.scanner.Stop() })
	s.give(s.amavisd)
	s.give(dir)
	return s
}

// give gives a file to the account that the program runs as.
func (s *site) give(path string) {
	s.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	uid, gid := accountIDs(s.t)
	if err := os.Chown(path, uid, gid); err != nil {
		s.t.Fatal(err)
	}
}

// command is the program with the site's options and more of them.
func (s *site) command(args ...string) *exec.Cmd {
	args = append([]string{"-p", "local:" + s.socket, "-S", s.amavisd, "-w", s.dir, "--pid-file", s.pid}, args...)
	if os.Geteuid() == 0 {
		args = append(args, "--user", testAccount)
	}
	return program(args...)
}

func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	// The race detector would hold up each exit by a second.
	cmd.Env = append(os.Environ(), programVariable+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// output runs a command to its end.
func output(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// process is a program that runs in the foreground.
type process struct {
	*site
	cmd   *exec.Cmd
	log   lockedBuffer
	ended chan struct{}
}

// start runs the program in the foreground until it serves.
func (s *site) start(args ...string) *process {
	s.t.Helper()
	return s.run(s.command(append([]string{"-f"}, args...)...))
}

func (s *site) run(cmd *exec.Cmd) *process {
	s.t.Helper()
	p := s.launch(cmd)
	await(s.t, "start: "+p.log.String(), func() bool { return strings.Contains(p.log.String(), " serving ") })
	return p
}

// launch starts the program and waits for nothing.
func (s *site) launch(cmd *exec.Cmd) *process {
	s.t.Helper()
	p := &process{site: s, cmd: cmd, ended: make(chan struct{})}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.log
	}
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { p.cmd.Wait(); close(p.ended) }()
	s.t.Cleanup(func() { p.cmd.Process.Kill(); <-p.ended })
	return p
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// exits waits for the end of the process, which must leave nothing behind.
func (p *process) exits(code int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("still running; its log:\n%s", p.log.String())
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit code %d, want %d; its log:\n%s", got, code, p.log.String())
	}
	p.isClean()
}

// isClean checks that the site has neither socket, pid file nor mail.
func (s *site) isClean() {
	s.t.Helper()
	for _, path := range []string{s.socket, s.pid} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			s.t.Errorf("%s is left: %v", path, err)
		}
	}
	s.spoolIsEmpty()
}

func (s *site) spoolIsEmpty() {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, "milter"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Error(err)
	}
	for _, e := range entries {
		if e.Name() != ".lock" {
			s.t.Errorf("%s is left in the spool", e.Name())
		}
	}
}

// mta connects like sendmail.
func (s *site) mta() *miltertest.MTA {
	s.t.Helper()
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	m, err := miltertest.New(conn, miltertest.Sendmail817)
	if err != nil {
		s.t.Fatal(err)
	}
	m.Timeout = patience
	if err := m.Greet(); err != nil {
		s.t.Fatal(err)
	}
	return m
}

// message is an ordinary message.
func message() miltertest.Message {
	return miltertest.Message{
		QueueID: "4BxYz01", Sender: "<ann@example.com>", Recipients: []string{"<bob@example.net>"},
		Header: [][2]string{{"Subject", " x"}}, Body: []byte("y\r\n"),
	}
}

// lockedBuffer is a bytes.Buffer for two goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// await polls until done.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// alive reports whether a process exists and is no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}

func (s *site) readPID() int {
	s.t.Helper()
	text, err := os.ReadFile(s.pid)
	if err != nil {
		s.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		s.t.Fatal(err)
	}
	return pid
}
