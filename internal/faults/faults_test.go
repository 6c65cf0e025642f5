package faults

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// A faultCase breaks something at a point of a message.
type faultCase struct {
	point, fault string // row and column of the table
	detail       string // tells the cases of one cell apart; may be empty

	// run plays the case and says what was not as promised. After it the next
	// message must pass, over the connection that it returns if that is not nil, and
	// nothing may be left: daemon.check. d is nil in a group without options.
	run func(d *daemon) (*miltertest.MTA, error)
}

// A group is cases for daemons with the same options. Groups of one name make one
// table.
type group struct {
	name    string
	variant string   // tells groups of one name apart; may be empty
	options *options // of the daemons that play its cases; nil: each case has its own
	workers int      // how many cases run at once; each worker has a daemon
	cases   []faultCase
}

// groupsAtOnce is how many groups run at once: most of them wait now and then.
const groupsAtOnce = 4

// groups are all tables.
func groups() []group {
	return slices.Concat(signalGroups(), machineGroups(), scannerGroups(), mtaGroups(), pairGroups())
}

// TestFaults is the fault matrix. The cases of a group run on as many daemons at once
// as the group says.
func TestFaults(t *testing.T) {
	began := time.Now()
	tables := newTables()
	places := make(chan struct{}, groupsAtOnce)
	var running sync.WaitGroup
	for _, g := range groups() {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			ran := false
			t.Run(dashed(g.name, g.variant), func(t *testing.T) {
				ran = true
				g.run(t, tables)
			})
			if !ran {
				tables.filtered.Store(true)
			}
		})
	}
	running.Wait()
	for _, table := range tables.list {
		t.Logf("%s", table)
	}
	if why := uncounted.Load(); why != nil {
		t.Logf("NOT LOOKED AT: the descriptors of some programs, which root may count: %v", *why)
	}
	t.Logf("fault matrix: %s, %.1f s", tables, time.Since(began).Seconds())
	if tables.filtered.Load() {
		return
	}
	for _, missing := range tables.missing(requirements()) {
		t.Errorf("the matrix has shrunk: %s", missing)
	}
}

// dashed makes a name of what is not empty.
func dashed(parts ...string) string {
	parts = slices.DeleteFunc(slices.Clone(parts), func(s string) bool { return s == "" })
	return strings.ReplaceAll(strings.Join(parts, "/"), " ", "-")
}

// run plays the cases of a group.
func (g group) run(t *testing.T, tables *tables) {
	queue := make(chan faultCase)
	r := &groupRun{group: g, t: t, tables: tables, table: tables.of(g.name, g.cases)}
	var workers sync.WaitGroup
	for range max(g.workers, 1) {
		workers.Go(func() { r.work(queue) })
	}
	for _, c := range g.cases {
		queue <- c
	}
	close(queue)
	workers.Wait()
}

// groupRun is a group whose cases are played.
type groupRun struct {
	group
	t      *testing.T
	tables *tables
	table  *table
	failed atomic.Int64 // cases
}

// work plays cases on one daemon. A daemon on which a case failed is replaced: what
// it has left would be held against the next case. After some failures, or without a
// daemon, what is left is not run.
func (r *groupRun) work(queue <-chan faultCase) {
	var d *daemon
	var err error
	for c := range queue {
		if err != nil || r.failed.Load() >= groupFailures || failures.Load() >= allFailures {
			r.table.skip(c)
			continue
		}
		if d == nil && r.options != nil {
			if d, err = startDaemon(*r.options); err != nil {
				fails(r.t.Name(), err)
				r.t.Errorf("starting the program, which is not tried again: %v", err)
				r.failed.Add(1)
				r.table.count(c, false)
				continue
			}
		}
		ok := r.play(c, d)
		r.table.count(c, ok)
		if !ok && d != nil {
			d.remove()
			d = nil
		}
	}
	if d != nil {
		if err := d.stop(); err != nil {
			fails(r.t.Name(), err)
			r.t.Errorf("at the end of a daemon of this group: %v", err)
		}
	}
}

// play plays a case as a test of its own.
func (r *groupRun) play(c faultCase, d *daemon) (ok bool) {
	ran := false
	ok = r.t.Run(dashed(c.point, c.fault, c.detail), func(t *testing.T) {
		ran = true
		c.play(t, d)
	})
	if !ran {
		r.tables.filtered.Store(true)
	}
	if !ok {
		r.failed.Add(1)
	}
	return ok
}

// play plays one case and looks what it has left.
func (c faultCase) play(t *testing.T, d *daemon) {
	logged := 0
	if d != nil {
		logged = len(d.log.String())
	}
	m, err := c.run(d)
	if err == nil && d != nil {
		err = d.check(m)
	} else if m != nil {
		m.Conn.Close()
	}
	if err == nil {
		return
	}
	fails(t.Name(), err)
	t.Error(err)
	if d != nil {
		t.Logf("the program said:\n%s", d.log.String()[logged:])
	}
}
