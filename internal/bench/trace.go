package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Trace counts the system calls of a program by name while n messages pass one after the
// other, with strace -c -f. Nothing else is measured meanwhile: it makes everything slow.
func (r *Rig) trace(p Program, mta MTA, n int) (map[string]int, error) {
	process, err := r.start(p, "unix", false)
	if err != nil {
		return nil, err
	}
	defer r.stop(process)
	load := r.load(mta, NewMail(smallMail), process.At)
	defer load.Close()
	if err := load.Open(1); err != nil {
		return nil, err
	}
	// Pools, threads and connections are there before it begins.
	if err := load.Send(n, 1); err != nil {
		return nil, err
	}
	summary := filepath.Join(r.memory, "strace")
	defer os.Remove(summary)
	cmd := exec.Command("strace", "-c", "-f", "-o", summary, "-p", strconv.Itoa(process.PID))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("counting system calls: %w (as root on Debian: apt-get install strace)", err)
	}
	err = poll(startTimeout, func() error { return traced(process.PID) })
	if err == nil {
		err = load.Send(n, 1)
	}
	cmd.Process.Signal(syscall.SIGINT)
	waitErr := cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(waitErr, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
		waitErr = nil // it ends itself by the signal that ended it
	}
	load.Check()
	if err := errors.Join(err, waitErr, load.Err()); err != nil {
		return nil, fmt.Errorf("counting system calls: %w: %s", err, &stderr)
	}
	text, err := os.ReadFile(summary)
	if err != nil {
		return nil, err
	}
	return parseSummary(string(text))
}

// traced returns nil if all threads of a process are traced.
func traced(pid int) error {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		return fmt.Errorf("process %d has no threads: %w", pid, err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err == nil && strings.Contains(string(text), "TracerPid:\t0\n") {
			return fmt.Errorf("%s is not traced", task)
		}
	}
	return nil
}

// parseSummary reads what strace -c prints: a line for each call, its name last and the
// number of calls fourth.
func parseSummary(text string) (map[string]int, error) {
	calls := map[string]int{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[len(fields)-1] == "total" || fields[0] == "%" || strings.HasPrefix(fields[0], "-") {
			continue
		}
		n, err := strconv.Atoi(fields[3])
		if err != nil {
			return nil, fmt.Errorf("strace printed %q: %w", line, err)
		}
		calls[fields[len(fields)-1]] += n
	}
	if len(calls) == 0 {
		return nil, fmt.Errorf("strace counted nothing: %q", text)
	}
	return calls, nil
}

// callsPerMessage sums up, and names the calls, the most frequent first.
func callsPerMessage(calls map[string]int, n int) (sum float64, text string) {
	names := make([]string, 0, len(calls))
	for name, k := range calls {
		names = append(names, name)
		sum += float64(k)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := calls[b] - calls[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	var list []string
	for _, name := range names {
		if per := float64(calls[name]) / float64(n); per >= 0.05 {
			list = append(list, fmt.Sprintf("%s %.1f", name, per))
		}
	}
	return sum / float64(n), strings.Join(list, ", ")
}

// systemCalls makes the row of both programs, of n messages of an MTA.
func (r *Rig) systemCalls(name string, mta MTA, n int, g goal) (Row, []string, error) {
	row := Row{Name: name, goal: g}
	var notes []string
	for i, p := range r.Programs {
		calls, err := r.trace(p, mta, n)
		if err != nil {
			return row, nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		sum, text := callsPerMessage(calls, n)
		row.Values[i] = Sample{sum}
		row.Sent[i] = n
		notes = append(notes, fmt.Sprintf("System calls a message of %s, %s: %s.", p.Name, mta.Name, text))
	}
	return row, notes, nil
}
