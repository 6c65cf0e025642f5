package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// programVariable turns the test binary into the little daemon of this file.
const programVariable = "DAEMON_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(attackVariable); dir != "" {
		os.Exit(attack(dir))
	}
	if dir := os.Getenv(watchVariable); dir != "" {
		os.Exit(watch(dir))
	}
	if os.Getenv(programVariable) != "" {
		os.Exit(program())
	}
	os.Exit(m.Run())
}

// options are those of the little daemon.
type options struct {
	mode, socket, pidFile, user, status, gate string
	account                                   *Account // from -account, who also owns the socket
	foreground                                bool
	timeout                                   time.Duration
}

// facts is what the little daemon writes about itself to its status file.
type facts struct {
	PID       int
	Marked    bool // the environment still has readyVariable
	Umask     int
	Tasks     []string // the Uid, Gid and Groups lines of each thread
	CoreLimit string
	ReadsRoot bool // could open a file that only root may read
	Regained  bool // could become root again
}

// mostLife is how long the little daemon lives at most: a test run that is
// interrupted cannot end it.
const mostLife = 5 * time.Minute

func program() int {
	time.AfterFunc(mostLife, func() { os.Exit(ExitSoftware) })
	var opt options
	flags := flag.NewFlagSet("program", flag.ContinueOnError)
	flags.StringVar(&opt.mode, "mode", "serve", "")
	flags.StringVar(&opt.socket, "socket", "", "")
	flags.StringVar(&opt.pidFile, "pid-file", "", "")
	flags.StringVar(&opt.user, "user", "", "")
	flags.Func("account", "JSON of whom to become, from before the start on", func(text string) error {
		return json.Unmarshal([]byte(text), &opt.account)
	})
	flags.StringVar(&opt.status, "status", "", "")
	flags.StringVar(&opt.gate, "gate", "", "FIFO that is read before the program goes on")
	flags.BoolVar(&opt.foreground, "foreground", false, "")
	flags.DurationVar(&opt.timeout, "timeout", StartTimeout, "")
	if flags.Parse(os.Args[1:]) != nil {
		return ExitUsage
	}
	parent := FromParent()
	if parent == nil && !opt.foreground {
		err := detach(opt.timeout)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return ExitCode(err)
	}
	if err := opt.run(parent); err != nil {
		parent.Fail(err)
		if parent == nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return ExitCode(err)
	}
	return ExitOK
}

func (opt *options) run(parent *Parent) error {
	signals, stop := NotifySignals()
	defer stop()
	if opt.gate != "" {
		if _, err := os.ReadFile(opt.gate); err != nil {
			return err
		}
	}
	switch opt.mode {
	case "fail":
		return failf(ExitConfiguration, "first line\nsecond line: 100%% wrong")
	case "fail-plain":
		return errors.New("no code")
	case "die":
		os.Exit(3)
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "panic":
		panic("a panic at the start")
	case "hang":
		select {}
	}
	return opt.serve(parent, signals)
}

func (opt *options) serve(parent *Parent, signals <-chan os.Signal) error {
	cfg := ListenConfig{Network: "unix", Address: opt.socket, OwnerUID: -1, GroupGID: -1, Account: opt.account}
	if opt.account != nil {
		cfg.OwnerUID = opt.account.UID
	}
	listener, err := Listen(cfg)
	if err != nil {
		return err
	}
	defer listener.Close()
	var pidFile *PIDFile
	if opt.pidFile != "" {
		if pidFile, err = WritePIDFile(opt.pidFile, opt.account); err != nil {
			return err
		}
	}
	defer pidFile.Remove()
	if opt.mode == dieStarting {
		dieLocked(listener, pidFile)
	}
	if opt.user != "" || opt.account != nil {
		if err := opt.drop(); err != nil {
			return err
		}
	}
	if opt.mode == dieEnding {
		dieLocked(listener, pidFile)
	}
	if err := opt.writeStatus(); err != nil {
		return err
	}
	if err := parent.Ready(); err != nil {
		return err
	}
	return echoService(listener).Run(signals)
}

// drop drops privileges while several threads exist.
func (opt *options) drop() error {
	release := make(chan struct{})
	defer close(release)
	for range 4 {
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			<-release
		}()
		<-locked
	}
	account := opt.account
	if account == nil {
		var err error
		if account, err = LookupAccount(opt.user); err != nil {
			return err
		}
	}
	if err := DropPrivileges(account); err != nil {
		return err
	}
	return ForbidCoreDumps()
}

// echoService answers each connection with its own bytes. Drain waits for the
// connections, which is how tests keep it busy.
func echoService(listener *Listener) *Service {
	open := make(chan struct{}, 100)
	return &Service{
		Serve: func() error {
			for {
				conn, err := listener.Accept()
				if errors.Is(err, net.ErrClosed) {
					return nil
				}
				if err != nil {
					return err
				}
				open <- struct{}{}
				go func() {
					defer func() { <-open }()
					defer conn.Close()
					_, _ = io.Copy(conn, conn)
				}()
			}
		},
		Drain: func(ctx context.Context) error {
			listener.Close()
			for len(open) > 0 {
				select {
				case <-ctx.Done():
					return context.Cause(ctx)
				case <-time.After(time.Millisecond):
				}
			}
			return nil
		},
		Log: slog.New(slog.DiscardHandler),
	}
}

func (opt *options) writeStatus() error {
	if opt.status == "" {
		return nil
	}
	var f facts
	f.PID = os.Getpid()
	_, f.Marked = os.LookupEnv(readyVariable)
	f.Umask = syscall.Umask(0)
	syscall.Umask(f.Umask)
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // a thread that has ended
		}
		if err != nil {
			return err
		}
		f.Tasks = append(f.Tasks, idLines(text))
	}
	limits, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			f.CoreLimit = strings.Join(strings.Fields(rest), " ")
		}
	}
	if secret, err := os.Open("/etc/shadow"); err == nil {
		secret.Close()
		f.ReadsRoot = true
	}
	f.Regained = syscall.Setuid(0) == nil
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return os.WriteFile(opt.status, text, 0o644)
}

func idLines(status []byte) string {
	var lines []string
	for line := range bytes.Lines(status) {
		for _, key := range []string{"Uid:", "Gid:", "Groups:", "CapPrm:"} {
			if bytes.HasPrefix(line, []byte(key)) {
				lines = append(lines, strings.Join(strings.Fields(string(line)), " "))
			}
		}
	}
	return strings.Join(lines, "; ")
}

// install puts the test binary under a program name into a directory of its own.
func install(t *testing.T, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(shortTempDir(t), name)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// shortTempDir is like t.TempDir, for paths that fit into a socket address.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "daemon")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// command makes a command that runs the little daemon.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	// A program built with -race would sleep for a second before its end.
	cmd.Env = append(os.Environ(), programVariable+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// testPatience is when a test gives up waiting.
const testPatience = 30 * time.Second

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(testPatience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("waited %v in vain: %s", testPatience, what)
		case <-tick.C:
		}
	}
}

// alive reports whether a process exists and is not merely a zombie that nobody
// has waited for. One whose first thread is a zombie holds its files until the
// last thread has ended.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X") || len(threads) > 1
}

// endDaemon sends a signal to a daemon and waits for its end.
func endDaemon(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Errorf("cannot signal the daemon: %v", err)
		return
	}
	eventually(t, "the daemon ends", func() bool { return !alive(pid) })
}

// running returns the process ids that have a string among their arguments.
func running(t *testing.T, argument string) []int {
	t.Helper()
	var pids []int
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(text, []byte(argument)) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/", &pid); err == nil && pid != os.Getpid() && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}
