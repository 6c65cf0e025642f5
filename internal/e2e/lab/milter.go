package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Where an administrator installs the program and what runs it.
const (
	milterProgram  = "/usr/sbin/amavis-milter"
	milterScript   = "/etc/init.d/amavis-milter"
	milterSettings = "/etc/sysconfig/amavis"
)

// Milter is the program under test, run by its init script or in the foreground.
type Milter struct {
	process *Process // nil if the init script runs it
	pid     int
}

// InstallMilter puts the program, its init script and the settings file of
// the folder contrib where they belong; the settings name this socket, and flags are
// added to their MILTER_FLAGS.
func InstallMilter(contrib, binary, socket, flags string) error {
	for _, file := range []struct {
		from, to string
		mode     os.FileMode
		more     string
	}{
		{binary, milterProgram, 0o755, ""},
		{filepath.Join(contrib, "init.d/amavis-milter"), milterScript, 0o755, ""},
		{filepath.Join(contrib, "sysconfig/amavis"), milterSettings, 0o644, fmt.Sprintf("\nMILTER_SOCKET=%s\nMILTER_FLAGS=\"${MILTER_FLAGS:-} %s\"\nMILTER_PIDFILE=/var/amavis/amavis-milter.pid\n", socket, flags)},
	} {
		content, err := os.ReadFile(file.from)
		if err != nil {
			return fmt.Errorf("installing the program: %w", err)
		}
		if err := os.MkdirAll(filepath.Dir(file.to), 0o755); err != nil {
			return fmt.Errorf("installing the program: %w", err)
		}
		os.Remove(file.to) // a running program cannot be written to
		if err := os.WriteFile(file.to, append(content, file.more...), file.mode); err != nil {
			return fmt.Errorf("installing the program: %w", err)
		}
	}
	return nil
}

// StartService installs the program with this socket and these flags and starts it
// by its init script, in the background, with its log going to syslog.
func StartService(contrib, binary, socket, flags string) (*Milter, error) {
	if err := InstallMilter(contrib, binary, socket, flags); err != nil {
		return nil, err
	}
	if err := initScript("start"); err != nil {
		return nil, err
	}
	// The script returns once the program serves: nothing to wait for.
	if err := answers("unix", socket)(); err != nil {
		return nil, fmt.Errorf("the init script is back, but amavis-milter does not serve: %w", err)
	}
	pids := pidsOf("amavis-milter")
	if len(pids) != 1 {
		return nil, fmt.Errorf("the init script started %d processes named amavis-milter, want one", len(pids))
	}
	return &Milter{pid: pids[0]}, nil
}

// initScript runs the installed init script. Its output goes to a file: a pipe
// would be held open by what it starts.
func initScript(action string) error {
	output, err := os.CreateTemp("", "init-script-")
	if err != nil {
		return err
	}
	defer os.Remove(output.Name())
	defer output.Close()
	cmd := exec.Command(milterScript, action)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(output.Name())
		return fmt.Errorf("%s %s: %w: %s", milterScript, action, err, lastLines(string(text), 5))
	}
	return nil
}

// StartForeground runs the program as account amavis in the foreground; ready
// is where it listens, as "unix" and a path.
func StartForeground(binary, network, address string, args ...string) (*Milter, error) {
	return startMilter("amavis-milter", exec.Command(binary, append([]string{"-f"}, args...)...), network, address)
}

func startMilter(name string, cmd *exec.Cmd, network, address string) (*Milter, error) {
	if os.Geteuid() == 0 {
		asAmavis(cmd)
	}
	p, err := StartProcess(name, cmd, answers(network, address))
	if err != nil {
		return nil, err
	}
	return &Milter{process: p, pid: p.PID()}, nil
}

// PID is the process id.
func (m *Milter) PID() int { return m.pid }

// Output is the last of what the program printed in the foreground.
func (m *Milter) Output() string {
	if m.process == nil {
		return ""
	}
	return m.process.Output()
}

// Stop ends the program, as it was started.
func (m *Milter) Stop() error {
	switch {
	case m == nil:
		return nil
	case m.process != nil:
		return m.process.Stop()
	case syscall.Kill(m.pid, 0) != nil:
		return nil
	}
	if err := initScript("stop"); err != nil {
		return err
	}
	return Poll(stopTimeout, "amavis-milter to end", func() error {
		if syscall.Kill(m.pid, 0) == nil {
			return errors.New("it still runs")
		}
		return nil
	})
}

// PeakMemory is the most resident memory that the program has had, in bytes.
func (m *Milter) PeakMemory() (int64, error) { return m.status("VmHWM:") }

// Memory is the program's resident memory, in bytes.
func (m *Milter) Memory() (int64, error) { return m.status("VmRSS:") }

// OwnMemory is the part of it that is not the program's file, whose pages come with the code
// that runs for the first time.
func (m *Milter) OwnMemory() (int64, error) { return m.status("RssAnon:") }

// status reads a size of /proc/PID/status, proc(5).
func (m *Milter) status(key string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == key {
			kibibytes, err := strconv.ParseInt(fields[1], 10, 64)
			return kibibytes << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of process %d", key, m.pid)
}

// Descriptors is the number of file descriptors that the program has open.
func (m *Milter) Descriptors() (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.pid))
	return len(entries), err
}

// pidsOf finds the processes of a name, without zombies.
func pidsOf(name string) []int {
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	var pids []int
	for _, comm := range comms {
		text, err := os.ReadFile(comm)
		if err != nil || strings.TrimSpace(string(text)) != name {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(comm), "stat"))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(comm))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
