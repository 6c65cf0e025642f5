package faults

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

const (
	// patience is how long a test waits for what must come; the machine may be busy.
	// See patienceNow.
	patience = 30 * time.Second

	// pollPause is the time between two looks at what must come.
	pollPause = 2 * time.Millisecond

	// testAccount is who the program runs as if the tests run as root.
	testAccount = "nobody"

	lockFile = ".lock" // all that may lie in an idle spool
)

// options are of one daemon.
type options struct {
	args     []string // more of the command line
	network  string   // of its scanner: "unix" if empty, or "tcp"
	noSocket bool     // the scanner does not listen at the start
}

// daemon is the program in the foreground with a place and a scanner of its own.
type daemon struct {
	options
	dir, socket, spool string
	scanner            *ampdptest.Server

	cmd   *exec.Cmd
	log   lockedBuffer  // its standard error
	ended chan struct{} // closed when the process has ended
	idle  int           // descriptors while nobody is connected; -1 if they cannot be counted
	next  int           // message
}

// newPlace makes the work directory and the scanner of a daemon that is not started.
func newPlace(o options) (_ *daemon, err error) {
	d := &daemon{options: o, idle: -1}
	if d.dir, err = os.MkdirTemp("", "faults-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(d.dir)
		}
	}()
	d.socket, d.spool = filepath.Join(d.dir, "milter.sock"), filepath.Join(d.dir, "milter")
	if err := os.Chmod(d.dir, 0o750); err != nil {
		return nil, err
	}
	network, address := "unix", filepath.Join(d.dir, "amavisd.sock")
	if o.network == "tcp" {
		network, address = "tcp", "127.0.0.1:0"
	}
	if d.scanner, err = ampdptest.Listen(network, address, good); err != nil {
		return nil, err
	}
	if o.noSocket {
		d.scanner.Stop()
	} else if network == "unix" {
		if err := os.Chmod(address, 0o666); err != nil {
			return nil, err
		}
	}
	return d, giveToAccount(d.dir)
}

// startDaemon makes a place, starts the program in it, waits until it serves, and has
// it pass one message, so that all that is made once is there.
func startDaemon(o options) (*daemon, error) {
	d, err := newPlace(o)
	if err != nil {
		return nil, err
	}
	if err = d.start(); err == nil && !o.noSocket {
		err = d.check(nil)
	}
	if err != nil {
		err = fmt.Errorf("%w; it said:\n%s", err, d.log.String())
		d.remove()
		return nil, err
	}
	return d, nil
}

// start starts the program and waits until it serves.
func (d *daemon) start() error {
	if err := d.launch(); err != nil {
		return err
	}
	err := await("the program to serve", func() error {
		if !strings.Contains(d.log.String(), " serving ") {
			return errors.New("it does not say so")
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.countIdle()
	return nil
}

// command is the program with the daemon's options.
func (d *daemon) command() *exec.Cmd {
	scanner := "local:" + d.scanner.Address()
	if d.scanner.Network() == "tcp" {
		host, port, _ := net.SplitHostPort(d.scanner.Address())
		scanner = "inet:" + port + "@" + host
	}
	args := []string{"-f", "-p", "local:" + d.socket, "-S", scanner, "-w", d.dir}
	if os.Geteuid() == 0 {
		args = append(args, "--user", testAccount)
	}
	cmd := exec.Command(program, append(args, d.args...)...)
	cmd.Env = append(os.Environ(), "GOTRACEBACK=all", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// launch starts the program and waits for nothing. It may be called again when the
// process has ended.
func (d *daemon) launch() error {
	d.log.reset()
	d.cmd = d.command()
	d.cmd.Stderr = &d.log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	cmd, ended := d.cmd, make(chan struct{})
	d.ended = ended
	go func() { cmd.Wait(); close(ended) }()
	return nil
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

func (d *daemon) signal(sig syscall.Signal) error { return d.cmd.Process.Signal(sig) }

// exits waits for the end of the process and wants this exit code; -1 is that of a
// process which a signal has ended.
func (d *daemon) exits(code int) error {
	limit := max(patienceNow(), endTime)
	select {
	case <-d.ended:
	case <-time.After(limit):
		return fmt.Errorf("the program still runs after %v", limit)
	}
	if got := d.cmd.ProcessState.ExitCode(); got != code {
		return fmt.Errorf("the program ended with code %d, want %d", got, code)
	}
	return nil
}

// remove ends all of it and removes the place.
func (d *daemon) remove() {
	if d.cmd != nil && d.cmd.Process != nil {
		d.cmd.Process.Kill()
		<-d.ended
	}
	d.scanner.Close()
	os.RemoveAll(d.dir)
}

// stop ends a daemon that should be idle, with a look at its goroutines and its log.
func (d *daemon) stop() error {
	defer d.remove()
	if err := d.settle(0); err != nil {
		return err
	}
	if err := checkLog(d.log.String()); err != nil {
		return err
	}
	found, err := d.goroutines()
	if err != nil {
		return err
	}
	usual, err := usualGoroutines()
	if err != nil {
		return err
	}
	return found.moreThan(usual)
}

// logLine is how each line of the log looks: nobody outside can begin one.
var logLine = regexp.MustCompile(`^\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d) (debug|info|warn|error) [^\x00-\x1f\x7f]+$`)

// checkLog wants nothing but lines of the program's own log: no panic, no report of
// the race detector, nothing that a peer has written.
func checkLog(log string) error {
	for line := range strings.Lines(log) {
		if line = strings.TrimSuffix(line, "\n"); !logLine.MatchString(line) || strings.Contains(line, "panic") {
			return fmt.Errorf("in the log stands %q", line)
		}
	}
	return nil
}

// descriptors lists what the process has open. Who may not look gets an error.
func (d *daemon) descriptors() ([]string, error) {
	dir := fmt.Sprintf("/proc/%d/fd", d.pid())
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	list := make([]string, len(entries))
	for i, e := range entries {
		target, _ := os.Readlink(filepath.Join(dir, e.Name()))
		list[i] = e.Name() + " " + target
	}
	return list, nil
}

// leftInSpool lists what lies in the spool besides the lock.
func (d *daemon) leftInSpool() ([]string, error) {
	entries, err := os.ReadDir(d.spool)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var left []string
	for _, e := range entries {
		if e.Name() != lockFile {
			left = append(left, e.Name())
		}
	}
	return left, nil
}

// settle waits until the spool is empty and the process has no more descriptors than
// when it was idle and those of so many connections.
func (d *daemon) settle(connections int) error {
	return await("spool and descriptors as before", func() error {
		left, err := d.leftInSpool()
		if err != nil || len(left) > 0 {
			return fmt.Errorf("left in the spool: %q, error %v", left, err)
		}
		if d.idle < 0 {
			return nil
		}
		list, err := d.descriptors()
		if err == nil && len(list) != d.idle+connections {
			err = fmt.Errorf("%d descriptors, want %d: %q", len(list), d.idle+connections, list)
		}
		return err
	})
}

// memory is a size of the process in bytes: "VmHWM" is the most that was ever
// resident, "VmRSS" what is (proc(5)).
func (d *daemon) memory(key string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == key+":" {
			kibibytes, err := strconv.ParseInt(fields[1], 10, 64)
			return kibibytes << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of process %d", key, d.pid())
}

// dial connects without a word.
func (d *daemon) dial() (*miltertest.MTA, error) {
	conn, err := net.Dial("unix", d.socket)
	if err != nil {
		return nil, err
	}
	return &miltertest.MTA{Conn: conn, Timeout: max(patienceNow(), endTime)}, nil
}

// queueID is a new one.
func (d *daemon) queueID() string {
	d.next++
	return fmt.Sprintf("FAULT%05d", d.next)
}

// giveToAccount gives a file to the account that the program runs as.
func giveToAccount(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	account, err := user.Lookup(testAccount)
	if err != nil {
		return fmt.Errorf("as root the tests need the account %s: %w", testAccount, err)
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(account.Gid)
	if err != nil {
		return err
	}
	return os.Chown(path, uid, gid)
}

// await polls until there is no error any more; what is waited for is said in the error.
func await(what string, reached func() error) error {
	long := patienceNow()
	limit := time.NewTimer(long)
	defer limit.Stop()
	tick := time.NewTicker(pollPause)
	defer tick.Stop()
	for {
		err := reached()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return fmt.Errorf("waited %v for %s: %w", long, what, err)
		}
	}
}

// lockedBuffer is a bytes.Buffer for several goroutines.
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

func (b *lockedBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Reset()
}
