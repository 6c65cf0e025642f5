package faults

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// table counts the cases of one group: its rows are points, its columns faults.
type table struct {
	name string

	mu             sync.Mutex
	points, faults []string // in the order in which they were first seen
	cells          map[[2]string]*cell
	cases, failed  int
	began          time.Time
	took           time.Duration
}

type cell struct{ cases, failed int }

func newTable(name string, cases []faultCase) *table {
	t := &table{name: name, cells: map[[2]string]*cell{}, began: time.Now()}
	for _, c := range cases {
		if !slices.Contains(t.points, c.point) {
			t.points = append(t.points, c.point)
		}
		if !slices.Contains(t.faults, c.fault) {
			t.faults = append(t.faults, c.fault)
		}
		t.cells[[2]string{c.point, c.fault}] = &cell{}
	}
	return t
}

// count notes the outcome of a case.
func (t *table) count(c faultCase, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	cell := t.cells[[2]string{c.point, c.fault}]
	cell.cases++
	t.cases++
	if !ok {
		cell.failed++
		t.failed++
	}
	t.took = time.Since(t.began)
}

// String prints the table: a cell holds the number of cases, and how many of them
// failed if any did.
func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d cases, %d failed, %.1f s\n", t.name, t.cases, t.failed, t.took.Seconds())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, fault := range t.faults {
		fmt.Fprintf(w, "\t%s", fault)
	}
	fmt.Fprintln(w, "\t")
	for _, point := range t.points {
		fmt.Fprint(w, point)
		for _, fault := range t.faults {
			switch c := t.cells[[2]string{point, fault}]; {
			case c == nil:
				fmt.Fprint(w, "\t")
			case c.failed > 0:
				fmt.Fprintf(w, "\t%d, %d FAILED", c.cases, c.failed)
			default:
				fmt.Fprintf(w, "\t%d", c.cases)
			}
		}
		fmt.Fprintln(w, "\t")
	}
	w.Flush()
	return b.String()
}
