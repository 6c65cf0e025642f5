package faults

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// leastCases is how many cases the whole matrix has at least.
const leastCases = 400

// A faultCase breaks something at a point of a message.
type faultCase struct {
	point, fault string // row and column of the table
	detail       string // tells the cases of one cell apart; may be empty

	// run plays the case and says what was not as promised. After it the next
	// message must pass, over the connection that it returns if that is not nil, and
	// nothing may be left: daemon.check. d is nil in a group without options.
	run func(d *daemon) (*miltertest.MTA, error)
}

// A group is a table of cases.
type group struct {
	name    string
	options *options // of the daemons that play its cases; nil: each case has its own
	workers int      // how many cases run at once; each worker has a daemon
	cases   []faultCase
}

// groups are all tables.
func groups() []group {
	return slices.Concat(scannerGroups())
}

// TestFaults is the fault matrix. Its groups run one after the other, the cases of a
// group on as many daemons at once as the group says.
func TestFaults(t *testing.T) {
	began := time.Now()
	var tables []*table
	all := true
	for _, g := range groups() {
		ran := false
		t.Run(strings.ReplaceAll(g.name, " ", "-"), func(t *testing.T) {
			ran = true
			tables = append(tables, g.run(t))
		})
		all = all && ran
	}
	cases, failed := 0, 0
	for _, table := range tables {
		t.Logf("%s", table)
		cases, failed = cases+table.cases, failed+table.failed
	}
	t.Logf("fault matrix: %d tables, %d cases, %d failed, %.1f s", len(tables), cases, failed, time.Since(began).Seconds())
	if all && cases < leastCases {
		t.Errorf("only %d cases, want %d at least", cases, leastCases)
	}
}

// run plays the cases of a group.
func (g group) run(t *testing.T) *table {
	table := newTable(g.name, g.cases)
	queue := make(chan faultCase)
	var workers sync.WaitGroup
	for range max(g.workers, 1) {
		workers.Go(func() { g.work(t, table, queue) })
	}
	for _, c := range g.cases {
		queue <- c
	}
	close(queue)
	workers.Wait()
	return table
}

// work plays cases on one daemon. A daemon on which a case failed is replaced: what
// it has left would be held against the next case.
func (g group) work(t *testing.T, table *table, queue <-chan faultCase) {
	var d *daemon
	for c := range queue {
		if d == nil && g.options != nil {
			var err error
			if d, err = startDaemon(*g.options); err != nil {
				t.Errorf("starting the program: %v", err)
				table.count(c, false)
				continue
			}
		}
		ok := t.Run(c.name(), func(t *testing.T) { c.play(t, d) })
		table.count(c, ok)
		if !ok && d != nil {
			d.remove()
			d = nil
		}
	}
	if d != nil {
		if err := d.stop(); err != nil {
			t.Errorf("at the end of a daemon of this group: %v", err)
		}
	}
}

// name is the name of the case's subtest.
func (c faultCase) name() string {
	name := strings.TrimSuffix(c.point+"/"+c.fault+"/"+c.detail, "/")
	return strings.ReplaceAll(name, " ", "-")
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
	t.Error(err)
	if d != nil {
		t.Logf("the program said:\n%s", d.log.String()[logged:])
	}
}
