package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The attackers are a process of their own that has only the processor time that nobody else
// wants (SCHED_IDLE, sched(7)): in life they have machines of their own, and what they
// take of this one is no work of the program's.

// attackVar has this program be the attackers, by an attackOrder in JSON.
const attackVar = "AMAVIS_MILTER_E2E_ATTACK"

// attackOrder is whom to attack, and how.
type attackOrder struct {
	Network, Address string
	Kinds            string // one of attackSets
	Count            int
	Duration         time.Duration // until the last one has begun
}

// attackReport is what the attackers saw.
type attackReport struct {
	Took   time.Duration  // until the last one had begun
	Held   int            // connections that nobody has closed on their side
	Failed map[string]int // attackers that could not connect, by error
}

func (r attackReport) String() string {
	return fmt.Sprintf("%d held, could not connect %v", r.Held, r.Failed)
}

// beAttackers is the process: it says that it is ready, begins at the first byte of its
// standard input, reports when all attackers have begun, and ends with its input.
func beAttackers(order string) error {
	var o attackOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		return err
	}
	raiseOpenFiles()
	if err := beIdle(); err != nil {
		return err
	}
	a, out := newAttack(o), json.NewEncoder(os.Stdout)
	if err := out.Encode("ready"); err != nil {
		return err
	}
	if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
		return err
	}
	began := time.Now()
	a.run()
	if err := out.Encode(attackReport{time.Since(began), len(a.held), a.failed}); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	a.end()
	return err
}

// beIdle gives all threads the policy SCHED_IDLE, which those that they start inherit.
func beIdle() error {
	for range 2 { // one that was being started by one that was not idle yet
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err == nil {
				err = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("SCHED_IDLE: %w", err)
			}
		}
	}
	return nil
}

// attackers is that process from outside.
type attackers struct {
	order attackOrder
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *json.Decoder

	reported chan struct{} // closed when all have begun
	seen     attackReport
	err      error
}

// startAttackers starts it and waits until it is ready.
func startAttackers(t *testing.T, o attackOrder) *attackers {
	t.Helper()
	order, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	a := &attackers{order: o, cmd: exec.Command("/proc/self/exe"), reported: make(chan struct{})}
	a.cmd.Env = append(os.Environ(), attackVar+"="+string(order))
	a.cmd.Stderr = os.Stderr
	out, err1 := a.cmd.StdoutPipe()
	if a.in, err = a.cmd.StdinPipe(); err == nil {
		err = err1
	}
	if err == nil {
		err = a.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.cmd.Process.Kill()
		a.cmd.Wait()
	})
	a.out = json.NewDecoder(out)
	var ready string
	if err := a.out.Decode(&ready); err != nil {
		t.Fatalf("the attackers: %v", err)
	}
	return a
}

func (a *attackers) pid() int { return a.cmd.Process.Pid }

// begin has them attack, and returns what is closed when all have begun.
func (a *attackers) begin(t *testing.T) <-chan struct{} {
	t.Helper()
	if _, err := a.in.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.reported)
		a.err = a.out.Decode(&a.seen)
	}()
	return a.reported
}

// report waits for that.
func (a *attackers) report(t *testing.T) attackReport {
	t.Helper()
	if <-a.reported; a.err != nil {
		t.Fatalf("the attackers: %v", a.err)
	}
	return a.seen
}

// end has them close what they hold.
func (a *attackers) end(t *testing.T) {
	t.Helper()
	a.in.Close()
	if err := a.cmd.Wait(); err != nil {
		t.Errorf("the attackers: %v", err)
	}
}
