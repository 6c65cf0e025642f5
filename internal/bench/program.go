package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// account is the user and group that the programs run as: neither runs as root. The
// number is nobody's.
const account = 810

// Bounds of waiting for a program.
const (
	startTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second // libmilter looks for TERM every 5 s
	pollInterval = 5 * time.Millisecond
)

// Program is one of the two that are measured.
type Program struct {
	Name string // "ours" or "theirs"

	// args makes the command line.
	args func(milter, scanner Endpoint, work, dir string) []string
}

// Ours is the program of this tree, at a path, as an administrator runs it in the
// foreground: all defaults, one line a message on stderr.
func Ours(path string) Program {
	return Program{"ours", func(milter, scanner Endpoint, work, _ string) []string {
		return []string{path, "-f", "-p", milter.String(), "-S", scanner.String(), "-w", work}
	}}
}

// Theirs is Debian's amavisd-milter from an unpacked root file system, with the
// libraries and the loader of that root. It logs nothing per message at its default level.
func Theirs(root string) (Program, error) {
	loaders, err := filepath.Glob(filepath.Join(root, "usr/lib/*/ld-linux*.so.*"))
	if err != nil || len(loaders) != 1 {
		return Program{}, fmt.Errorf("looking for the loader of %s: %d found, %v", root, len(loaders), err)
	}
	return Program{"theirs", func(milter, scanner Endpoint, work, dir string) []string {
		return []string{
			loaders[0], "--library-path", filepath.Dir(loaders[0]), filepath.Join(root, "usr/sbin/amavisd-milter"),
			"-f", "-s", milter.String(), "-S", scanner.Address, "-w", work, "-p", filepath.Join(dir, "pid"), "-q", strconv.Itoa(backlog),
		}
	}}, nil
}

// Process is a program that runs.
type Process struct {
	Program Program
	At      Endpoint
	PID     int

	dir   string // of it alone: log and sockets
	work  string
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
}

// Start runs a program below dir, with its mail files below work, as a user that is not
// root, and returns when it serves. network says by what kind of socket.
func (p Program) Start(network, dir, work string, scanner Endpoint) (*Process, error) {
	r := &Process{Program: p, dir: filepath.Join(dir, p.Name), work: filepath.Join(work, p.Name+"-work"), ended: make(chan struct{})}
	for _, d := range []string{r.dir, r.work} {
		if err := errors.Join(os.RemoveAll(d), os.Mkdir(d, 0o750), os.Chown(d, account, account)); err != nil {
			return nil, fmt.Errorf("making a directory for %s: %w", p.Name, err)
		}
	}
	r.At = Endpoint{"unix", filepath.Join(r.dir, "milter.sock")}
	if network == "tcp" {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		r.At = Endpoint{"tcp", fmt.Sprintf("127.0.0.1:%d", port)}
	}
	log, err := os.Create(filepath.Join(r.dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	args := p.args(r.At, scanner, r.work, r.dir)
	r.cmd = exec.Command(args[0], args[1:]...)
	r.cmd.Dir = "/"
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, Credential: &syscall.Credential{Uid: account, Gid: account}}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.Name, err)
	}
	r.PID = r.cmd.Process.Pid
	go func() {
		r.err = r.cmd.Wait()
		close(r.ended)
	}()
	err = poll(startTimeout, func() error {
		select {
		case <-r.ended:
			return nil
		default:
		}
		fd, err := r.At.connect()
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
	if err == nil && r.hasEnded() {
		err = fmt.Errorf("it ended: %v", r.err)
	}
	if err != nil {
		r.Stop()
		return nil, fmt.Errorf("starting %s: %w: %s", p.Name, err, r.lastLine())
	}
	return r, nil
}

func (r *Process) hasEnded() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// Stop ends the program and removes what it has written.
func (r *Process) Stop() {
	if !r.hasEnded() {
		// What is left behind by KILL is removed with the directory; waiting for libmilter to
		// look for TERM would take 5 s.
		syscall.Kill(-r.PID, syscall.SIGKILL)
		<-r.ended
	}
	os.RemoveAll(r.dir)
	os.RemoveAll(r.work)
}

func (r *Process) lastLine() string {
	text, err := os.ReadFile(filepath.Join(r.dir, "log"))
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(lines[len(lines)-1])
}

// CPU is what the program has used of the processors so far, to the nanosecond: all its
// threads, also those that have ended. Neither program has children.
func (r *Process) CPU() (time.Duration, error) {
	// clock_getcpuclockid(3): the process's number, inverted, over the three bits that
	// choose the clock of the scheduler (CPUCLOCK_SCHED is 2).
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^r.PID<<3|2), &t); err != nil {
		return 0, fmt.Errorf("reading the clock of process %d: %w", r.PID, err)
	}
	return time.Duration(t.Nano()), nil
}

// Memory is the resident memory in bytes, and the most that it ever was.
func (r *Process) Memory() (now, peak int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		to := &now
		switch fields := strings.Fields(line); {
		case len(fields) < 2 || fields[0] != "VmRSS:" && fields[0] != "VmHWM:":
			continue
		case fields[0] == "VmHWM:":
			to = &peak
			fallthrough
		default:
			if *to, err = strconv.ParseInt(fields[1], 10, 64); err != nil {
				return 0, 0, err
			}
			*to <<= 10
		}
	}
	if now == 0 || peak == 0 {
		return 0, 0, fmt.Errorf("process %d does not say what memory it has", r.PID)
	}
	return now, peak, nil
}

// Left lists what the program has left in its work directory, its lock left out.
func (r *Process) Left() ([]string, error) {
	var left []string
	err := filepath.WalkDir(r.work, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != r.work && d.Name() != ".lock" && path != filepath.Join(r.work, "milter") {
			left = append(left, path)
		}
		return err
	})
	return left, err
}

// clean returns nil if nothing is left.
func (r *Process) clean() error {
	left, err := r.Left()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d files and directories are left in its work directory, the first of them %s", len(left), left[0])
	}
	return err
}

// poll calls probe until it returns nil, at most for the given time.
func poll(timeout time.Duration, probe func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := probe()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// freePort returns a port on which nobody listens.
func freePort() (int, error) {
	fd, at, err := Endpoint{"tcp", "127.0.0.1:0"}.listen()
	if err != nil {
		return 0, err
	}
	unix.Close(fd)
	_, port, _ := strings.Cut(at.Address, ":")
	return strconv.Atoi(port)
}
