package daemon

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// StartTimeout is how long the parent waits for the child's report. Nothing that
	// the child waits for at its start may take as long, or nobody learns what it was.
	StartTimeout = 60 * time.Second

	// endTimeout is how long a child that has failed, or is told to end, may take
	// until it is killed.
	endTimeout = 5 * time.Second

	// readyVariable marks the environment of a detached child; its value is the
	// number of the descriptor on which the child reports.
	readyVariable = "AMAVIS_MILTER_READY_FD"

	// firstExtraFD is the number of the first of os/exec's ExtraFiles in the child.
	firstExtraFD = 3
)

// Detach starts this program again as a daemon: with the same arguments, argv[0]
// included, in a session of its own, with /dev/null as its input and output and
// without the descriptors above 2 that its caller left open, so that a caller
// who waits for the end of a pipe does not wait for the daemon. stderr stays as it
// is until the child is ready, so that warnings, and a panic, can be read. Nothing that
// the child might ever execute can have more rights than it has (no_new_privs).
//
// It returns nil when the child has called [Parent.Ready]; the process should
// end with code 0 then. If the child has called [Parent.Fail], Detach returns the
// child's text and exit code as an [Error]. A child that dies without a word, or
// does not report within 60 s (it is ended then), is an Error with ExitSoftware.
//
// The program is started by the path it was invoked by, not by /proc/self/exe:
// that would name the process "exe", and no pkill(1) of an init script finds it.
func Detach() error { return detach(StartTimeout) }

func detach(timeout time.Duration) error {
	program, err := ownProgram(os.Args[0])
	if err != nil {
		return failf(ExitOS, "cannot detach: %w", err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return failf(ExitOS, "cannot detach: %w", err)
	}
	defer reader.Close()
	child, err := startChild(program, writer)
	writer.Close() // or the pipe would not end with the child
	if err != nil {
		return failf(ExitOS, "cannot detach: %w", err)
	}
	if err := reader.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return failf(ExitOS, "cannot detach: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(reader, maxReport))
	ready, failure := parseReport(text)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		endChild(child, syscall.SIGTERM)
		return failf(ExitSoftware, "the daemon did not say within %v that it serves, and was ended; its log may tell why", timeout)
	case err != nil:
		endChild(child, syscall.SIGTERM)
		return failf(ExitOS, "cannot read the daemon's report: %w", err)
	case ready:
		return nil
	case failure != nil:
		endChild(child, 0)
		return failure
	}
	state := endChild(child, 0)
	return failf(ExitSoftware, "the daemon died at its start without a word (%s)", state)
}

// startChild starts the program as the detached child that reports to writer.
func startChild(program string, writer *os.File) (*exec.Cmd, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	closeInheritedOnExec()
	child := &exec.Cmd{
		Path:        program,
		Args:        os.Args,
		Env:         append(os.Environ(), fmt.Sprintf("%s=%d", readyVariable, firstExtraFD)),
		Stdin:       null,
		Stdout:      null,
		Stderr:      os.Stderr,
		ExtraFiles:  []*os.File{writer},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	// Set here, it holds for every thread of the child: threads inherit it, and the
	// child has none yet.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("forbid new privileges: %w", err)
	}
	return child, child.Start()
}

// endChild waits for the end of the child, after sending it a signal unless that
// is 0; it kills the child if that takes longer than endTimeout. It says how the
// child has ended.
func endChild(child *exec.Cmd, sig syscall.Signal) string {
	if sig != 0 {
		_ = child.Process.Signal(sig) // it may have ended just now
	}
	killer := time.AfterFunc(endTimeout, func() { _ = child.Process.Kill() })
	defer killer.Stop()
	_ = child.Wait() // the state says more than the error
	return child.ProcessState.String()
}

// ownProgram returns the absolute path by which this program was invoked, so that
// a symbolic link's name stays the name of the process. What argv[0] finds is
// believed only if it is the program that runs: argv[0] is the caller's to choose.
func ownProgram(argv0 string) (string, error) {
	path, err := exec.LookPath(argv0)
	if err == nil || errors.Is(err, exec.ErrDot) {
		path, err = filepath.Abs(path)
	}
	if err == nil && isOurself(path) {
		return path, nil
	}
	return os.Executable()
}

func isOurself(path string) bool {
	running, err := os.Stat("/proc/self/exe")
	if err != nil {
		return true // no /proc: nothing better is known
	}
	found, err := os.Stat(path)
	return err == nil && os.SameFile(running, found)
}

// maxLegacyFD bounds the descriptors that are looked at where close_range(2) does
// not exist (Linux before 5.11).
const maxLegacyFD = 65536

// closeInheritedOnExec keeps the descriptors above 2 that we were started with
// from the child.
func closeInheritedOnExec() {
	if unix.CloseRange(firstExtraFD, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) != nil {
		closeInheritedOneByOne(unix.CloseOnExec) // fails where there is none
	}
}

func closeInheritedOneByOne(closeOnExec func(fd int)) {
	for fd := firstExtraFD; fd < maxLegacyFD; fd++ {
		closeOnExec(fd)
	}
}
