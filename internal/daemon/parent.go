package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxReport bounds what the parent reads of the child's report, in bytes.
	maxReport = 64 << 10

	// daemonUmask is the file mode creation mask of a daemon: nothing for others.
	daemonUmask = 0o027

	reportReady = "ready"
	reportFail  = "fail"
)

// Parent is a detached child's line to the process that called [Detach]. The
// methods of a nil Parent do nothing: a program in the foreground reports to
// nobody.
type Parent struct{ pipe *os.File }

// FromParent returns the line to the process that detached us, or nil if we were
// not detached. It is to be called once, early: it takes the mark of a detached
// child from the environment, and sets the umask of a daemon (027) in such a child.
//
// The working directory is still the caller's, so that relative paths of the
// command line mean what they say; they must be made absolute before Ready.
func FromParent() *Parent {
	value, marked := os.LookupEnv(readyVariable)
	if !marked {
		return nil
	}
	_ = os.Unsetenv(readyVariable) // cannot fail: the name is well-formed
	fd, err := strconv.Atoi(value)
	if err != nil || fd < firstExtraFD || !isPipe(fd) {
		return nil // a stray variable of somebody's environment
	}
	unix.CloseOnExec(fd)
	syscall.Umask(daemonUmask)
	return &Parent{pipe: os.NewFile(uintptr(fd), "readiness pipe")}
}

func isPipe(fd int) bool {
	var stat unix.Stat_t
	return unix.Fstat(fd, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFIFO
}

// Ready tells the parent that we serve. The working directory becomes "/" and
// stderr becomes /dev/null before that, so that nothing of the caller is held any
// more. An error means that we are not wanted: the parent has gone, and its caller
// believes that the start has failed. The program should end then.
func (p *Parent) Ready() error {
	if p == nil {
		return nil
	}
	if err := os.Chdir("/"); err != nil {
		return failf(ExitOS, "cannot detach: %w", err)
	}
	if err := silenceStderr(); err != nil {
		return failf(ExitOS, "cannot detach: %w", err)
	}
	if err := p.report(reportReady + "\n"); err != nil {
		return failf(ExitOS, "the process that started the daemon has gone: %w", err)
	}
	return nil
}

func silenceStderr() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	return unix.Dup3(int(null.Fd()), int(os.Stderr.Fd()), 0)
}

// Fail tells the parent why we do not serve: the text of err, and its [ExitCode],
// with which the parent will end. This process should end then, too.
func (p *Parent) Fail(err error) {
	if p == nil {
		return
	}
	text := err.Error()
	if room := maxReport - 64; len(text) > room {
		text = text[:room]
	}
	// If the parent has gone, nobody is left to be told.
	_ = p.report(fmt.Sprintf("%s %d\n%s", reportFail, ExitCode(err), text))
}

func (p *Parent) report(text string) error {
	_, err := p.pipe.WriteString(text)
	return errors.Join(err, p.pipe.Close())
}

// parseReport reads what the child has said: that it is ready, or why it is not.
// Neither means that it has died before it could say all.
func parseReport(report []byte) (ready bool, failure error) {
	line, text, whole := bytes.Cut(report, []byte("\n"))
	if !whole {
		return false, nil
	}
	if string(line) == reportReady {
		return true, nil
	}
	var code int
	if _, err := fmt.Sscanf(string(line), reportFail+" %d", &code); err != nil || code == ExitOK {
		return false, nil
	}
	return false, &Error{Code: code, Err: errors.New(string(text))}
}
