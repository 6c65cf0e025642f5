package lab

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// WorkDirs are the directories in which amavisd takes mail, its home and its
// $TEMPBASE. Milters that share none of them share no spool.
var WorkDirs = []string{AmavisHome, AmavisHome + "/tmp"}

// SpoolOf lists what lies in the spool of a milter that works in dir, its lock left
// out.
func SpoolOf(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "milter"))
	var names []string
	for _, entry := range entries {
		if entry.Name() != ".lock" {
			names = append(names, entry.Name())
		}
	}
	return names, err
}

// SocketFlags are the options of a milter that listens where the MTA looks for it,
// so that it may connect.
func (m *MTA) SocketFlags() []string {
	flags := []string{"-p", "local:" + m.MilterSocket}
	if m.socketGroup != "" {
		flags = append(flags, "-g", m.socketGroup)
	}
	return flags
}

// RunMTAs runs all MTAs. What listens at their milter sockets, if anything, is the
// caller's business.
func (p *Pipeline) RunMTAs() error {
	for _, mta := range MTAs() {
		if err := p.startMTA(mta); err != nil {
			return err
		}
	}
	return nil
}

// Clean removes what an amavisd that was killed has left directly in its
// directories, as Debian's service does before it starts it.
func (a *Amavisd) Clean() error {
	for _, dir := range WorkDirs {
		left, err := filepath.Glob(dir + "/amavis-*")
		for _, path := range left {
			err = errors.Join(err, os.RemoveAll(path))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Pause stops amavisd and its workers where they are (SIGSTOP); Resume lets them go
// on.
func (a *Amavisd) Pause() error { return syscall.Kill(-a.PID(), syscall.SIGSTOP) }

// Resume ends a Pause.
func (a *Amavisd) Resume() error { return syscall.Kill(-a.PID(), syscall.SIGCONT) }

// KillWorker kills one of amavisd's workers, if it has any at the moment.
func (a *Amavisd) KillWorker(random *rand.Rand) error {
	workers, err := childrenOf(a.PID())
	if err != nil {
		return err
	}
	if len(workers) == 0 {
		return nil // all have been killed just now
	}
	err = syscall.Kill(workers[random.IntN(len(workers))], syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return nil // it had done its work and ended
	}
	return err
}

// childrenOf returns the processes whose parent is pid, proc(5).
func childrenOf(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var children []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The name, in brackets, may hold anything; state and parent follow it.
		_, rest, _ := strings.Cut(string(text[max(0, strings.LastIndexByte(string(text), ')')):]), " ")
		if fields := strings.Fields(rest); len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			children = append(children, child)
		}
	}
	return children, nil
}
