package faults

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// Something that is wrong with all messages must not have each case wait for what never
// comes: the tables, which show what the failures have in common, would come too late.
const (
	// groupFailures and allFailures are after how many failed cases no more are
	// started in a group, and at all. Those that are left count as not run.
	groupFailures, allFailures = 5, 20

	// lessPatience is how long a test waits for what must come when hurryAfter cases
	// have failed.
	lessPatience = 5 * time.Second
	hurryAfter   = 3
)

// failures counts the failed cases of all groups.
var failures atomic.Int64

// patienceNow is how long a test waits for what must come.
func patienceNow() time.Duration {
	if failures.Load() >= hurryAfter {
		return lessPatience
	}
	return patience
}

// fails tells of a failed case at once: what tests print stands where the tests end.
func fails(name string, err error) {
	failures.Add(1)
	fmt.Fprintf(os.Stderr, "faults: %s failed: %.300q\n", name, err.Error())
}

// uncounted is why descriptors of programs could not be counted, if they could not.
var uncounted atomic.Pointer[error]

// countIdle counts the descriptors of a program to which nobody is connected. Who may
// not look has them not counted.
func (d *daemon) countIdle() {
	d.idle = -1
	list, err := d.descriptors()
	if err != nil {
		uncounted.Store(&err)
		return
	}
	d.idle = len(list)
}
