package faults

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// columns is how many faults stand beside each other in a table.
const columns = 9

// tables are all tables, by name.
type tables struct {
	mu       sync.Mutex
	list     []*table    // in the order of their first cases
	filtered atomic.Bool // by -run: not all cases were to be played
}

func newTables() *tables { return &tables{} }

// of returns the table of a name, with room for these cases.
func (ts *tables) of(name string, cases []faultCase) *table {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.named(name)
	if t == nil {
		t = &table{name: name, cells: map[[2]string]*cell{}, played: map[string]int{}, began: time.Now()}
		ts.list = append(ts.list, t)
	}
	t.add(cases)
	return t
}

// named returns the table of a name, or nil.
func (ts *tables) named(name string) *table {
	for _, t := range ts.list {
		if t.name == name {
			return t
		}
	}
	return nil
}

// String is the totals: how many cases there were in all, how many of them failed, and
// how many were not run because of that.
func (ts *tables) String() string {
	cases, failed, notRun := 0, 0, 0
	for _, t := range ts.list {
		cases, failed, notRun = cases+t.cases, failed+t.failed, notRun+t.notRun
	}
	s := fmt.Sprintf("%d tables, %d cases, %d failed", len(ts.list), cases, failed)
	if notRun > 0 {
		s += fmt.Sprintf(", %d NOT RUN after so many failures", notRun)
	}
	return s
}

// table counts the cases of the groups of one name: its rows are points, its columns
// faults.
type table struct {
	name string

	mu             sync.Mutex
	points, faults []string // in the order in which they were first seen
	cells          map[[2]string]*cell
	played         map[string]int // cases of each fault, with those that were not run
	cases, failed  int
	notRun         int
	began          time.Time
	took           time.Duration
}

type cell struct{ cases, failed, notRun int }

func (t *table) add(cases []faultCase) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range cases {
		if !slices.Contains(t.points, c.point) {
			t.points = append(t.points, c.point)
		}
		if !slices.Contains(t.faults, c.fault) {
			t.faults = append(t.faults, c.fault)
		}
		if key := [2]string{c.point, c.fault}; t.cells[key] == nil {
			t.cells[key] = &cell{}
		}
	}
}

// count notes the outcome of a case.
func (t *table) count(c faultCase, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	cell := t.cells[[2]string{c.point, c.fault}]
	cell.cases++
	t.cases++
	t.played[c.fault]++
	if !ok {
		cell.failed++
		t.failed++
	}
	t.took = time.Since(t.began)
}

// skip notes that a case was not run.
func (t *table) skip(c faultCase) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cells[[2]string{c.point, c.fault}].notRun++
	t.played[c.fault]++
	t.notRun++
}

// String prints the table in parts of so many columns, without the rows that are empty
// there. A cell holds the number of cases, and how many of them failed, or were not run,
// if any.
func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d cases, %d failed, %d not run, %.1f s\n", t.name, t.cases, t.failed, t.notRun, t.took.Seconds())
	for faults := range slices.Chunk(t.faults, columns) {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(w, "\t%s\t\n", strings.Join(faults, "\t"))
		for _, point := range t.points {
			if row, any := t.row(point, faults); any {
				fmt.Fprintf(w, "%s\t%s\t\n", point, row)
			}
		}
		w.Flush()
	}
	return b.String()
}

// row returns the cells of a point, and whether there is anything in them.
func (t *table) row(point string, faults []string) (row string, any bool) {
	cells := make([]string, len(faults))
	for i, fault := range faults {
		c := t.cells[[2]string{point, fault}]
		if c == nil {
			continue
		}
		any = true
		cells[i] = fmt.Sprint(c.cases)
		if c.failed > 0 {
			cells[i] += fmt.Sprintf(", %d FAILED", c.failed)
		}
		if c.notRun > 0 {
			cells[i] += fmt.Sprintf(", %d not run", c.notRun)
		}
	}
	return strings.Join(cells, "\t"), any
}
