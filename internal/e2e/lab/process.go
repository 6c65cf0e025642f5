package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Bounds of the lab's waiting.
const (
	pollInterval = 10 * time.Millisecond
	startTimeout = 60 * time.Second // of a server, from its start to its first answer
	stopTimeout  = 20 * time.Second // of a server, from TERM to its end
)

// Poll calls probe until it returns nil, at most for the given time; what is
// waited for, and the last error, are in the error.
func Poll(timeout time.Duration, what string, probe func() error) error {
	deadline := time.After(timeout)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := probe()
		if err == nil {
			return nil
		}
		select {
		case <-deadline:
			return fmt.Errorf("waiting %v for %s: %w", timeout, what, err)
		case <-tick.C:
		}
	}
}

// Process is a server in the foreground.
type Process struct {
	Name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // valid once done is closed
	out  *tailBuffer
}

// StartProcess starts a server; ready says whether it serves. When the server
// ends before, or is not ready in time, the error holds what it printed last.
func StartProcess(name string, cmd *exec.Cmd, ready func() error) (*Process, error) {
	p := &Process{Name: name, cmd: cmd, done: make(chan struct{}), out: &tailBuffer{}}
	p.cmd.Dir = "/"
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.WaitDelay = time.Second // children of a dead server may hold its output
	if p.cmd.SysProcAttr == nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	p.cmd.SysProcAttr.Setpgid = true
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	err := Poll(startTimeout, name+" to be ready", func() error {
		select {
		case <-p.done:
			return nil
		default:
			return ready()
		}
	})
	if err == nil && p.Ended() {
		err = fmt.Errorf("it ended: %v", p.err)
	}
	if err != nil {
		p.Kill()
		return nil, fmt.Errorf("starting %s: %w: %s", name, err, lastLines(p.Output(), 10))
	}
	return p, nil
}

// PID is the process id of the server.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended reports whether the server has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Output is the last of what the server printed.
func (p *Process) Output() string { return p.out.String() }

// Signal sends a signal to the server.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Stop ends the server with TERM and waits for it; it is killed, and an error
// returned, when that takes too long.
func (p *Process) Stop() error {
	if p == nil || p.Ended() {
		return nil
	}
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		p.Kill()
		return fmt.Errorf("%s did not end within %v of TERM", p.Name, stopTimeout)
	}
}

// Kill ends the server and its children at once and waits for it.
func (p *Process) Kill() {
	if p == nil {
		return
	}
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// Exists returns nil if there is a file at path, as a probe for Poll.
func Exists(path string) error {
	_, err := os.Stat(path)
	return err
}

// Gone returns nil if there is no file at path.
func Gone(path string) error {
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%s is still there", path)
	}
	return err
}

// tailLimit is how much of a server's output is kept, in bytes.
const tailLimit = 64 << 10

// tailBuffer keeps the last tailLimit bytes written to it.
type tailBuffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	if len(b.text) > tailLimit {
		b.text = append([]byte(nil), b.text[len(b.text)-tailLimit:]...)
	}
	return len(p), nil
}

func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}
