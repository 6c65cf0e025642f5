package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// sleeper is a milter that does nothing but run a script, after which it waits for
// its end; its starts are counted.
func sleeper(t *testing.T, starts *atomic.Int32, script string) func() (*Milter, error) {
	dir := t.TempDir()
	return func() (*Milter, error) {
		ready := filepath.Join(dir, fmt.Sprint(starts.Add(1)))
		cmd := exec.Command("sh", "-c", "trap exit TERM INT; : >"+ready+"; "+script+"\nwhile :; do sleep 0.01; done")
		process, err := StartProcess("sleeper", cmd, func() error { return Exists(ready) })
		if err != nil {
			return nil, err
		}
		return &Milter{process: process, pid: process.PID()}, nil
	}
}

// What ends because it was told to is started again, until the end.
func TestSupervisorStartsAgain(t *testing.T) {
	var starts, between, again atomic.Int32
	s, err := Supervise(sleeper(t, &starts, ":"), func(*Milter) { between.Add(1) }, func(*Milter) { again.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	for number, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT} {
		if err := s.Signal(sig); err != nil {
			t.Error(err)
		}
		if err := s.Await(number + 2); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if _, number := s.Current(); number != 4 || starts.Load() != 4 || between.Load() != 3 || again.Load() != 3 {
		t.Errorf("instance %d after %d starts, %d and %d calls; want 4, 4, 3, 3", number, starts.Load(), between.Load(), again.Load())
	}
	if err := s.Signal(syscall.SIGHUP); err == nil {
		t.Error("a signal to nobody is no error")
	}
}

// What ends by itself is started again as well, but that is an error.
func TestSupervisorTellsOfCrashes(t *testing.T) {
	var starts atomic.Int32
	crashed := filepath.Join(t.TempDir(), "crashed")
	s, err := Supervise(sleeper(t, &starts, "until test -e "+crashed+"; do sleep 0.01; done; rm "+crashed+"; echo oh dear; exit 2"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(crashed, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Await(2); err != nil {
		t.Error(err)
	}
	if err := s.Stop(); err == nil || !strings.Contains(err.Error(), "oh dear") {
		t.Errorf("error %v, want one with its last words", err)
	}
}

// Where no other will start, nobody waits for it.
func TestSupervisorGivesUp(t *testing.T) {
	var starts atomic.Int32
	first := sleeper(t, &starts, ":")
	s, err := Supervise(func() (*Milter, error) {
		if starts.Load() > 0 {
			return nil, os.ErrPermission
		}
		return first()
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := s.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := s.Await(2); err == nil || time.Since(began) > startTimeout/2 {
		t.Errorf("error %v after %v, want one at once", err, time.Since(began))
	}
	if err := s.Stop(); err == nil {
		t.Error("Stop says nothing of it")
	}
}
